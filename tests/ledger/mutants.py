"""A mutant: one fragment of a module's source replaced, in the running code, for as long as a test looks at it."""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from types import FunctionType, ModuleType


@contextmanager
def mutant(module: ModuleType, old: str, new: str) -> Iterator[None]:
    """Functions and methods of `module` run as if `old`, which stands there exactly once, were `new`."""
    source = inspect.getsource(module)
    assert source.count(old) == 1, f"{module.__name__} has {source.count(old)} times: {old}"
    changed: dict = dict(vars(module))
    before = {name: function.__code__ for name, function in _functions(module).items()}
    exec(compile(source.replace(old, new), module.__file__, "exec"), changed)
    other = _functions_of(changed, module.__name__)
    functions = _functions(module)
    swapped = {name: functions[name] for name in before if name in other and other[name].__code__ != before[name]}
    assert swapped, f"{module.__name__}: nothing changed"
    try:
        for name, function in swapped.items():
            function.__code__ = other[name].__code__
        yield
    finally:
        for name, function in swapped.items():
            function.__code__ = before[name]


def _functions(module: ModuleType) -> dict[str, FunctionType]:
    return _functions_of(vars(module), module.__name__)


def _functions_of(names: dict, module: str) -> dict[str, FunctionType]:
    found = {}
    for name, value in names.items():
        if isinstance(value, FunctionType) and inspect.unwrap(value).__module__ == module:
            found[name] = inspect.unwrap(value)
        elif inspect.isclass(value) and value.__module__ == module:
            found |= {f"{name}.{method}": inspect.unwrap(function) for method, function in vars(value).items() if isinstance(function, FunctionType)}
    return found

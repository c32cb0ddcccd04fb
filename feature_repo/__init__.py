"""Feast's definitions of the features that the marts hold: entities, sources, views, the one versioned service.

Imports feast and contracts; nothing of jobs or serving. What stays out: how a feature is computed (dbt/models/marts),
when rows are written (jobs/examples), the ranking features of a request (contracts.features).
"""

import logging
import sys
import warnings
from unittest import mock


def _import_feast_lightly() -> None:
    """Without torch, which Feast imports, where it is there, for `to_tensor` alone: 3 s and 200 MB that serving has no use
    for. Without typeguard, which compiles each of Feast's classes again to check types at run time: two thirds of the
    import's time (10.5 s of CPU against 3.5, one run), in every task."""
    if "feast" in sys.modules or "torch" in sys.modules:
        return
    sys.modules["torch"] = None
    try:
        with mock.patch("typeguard.typechecked", lambda target=None, **_: target or (lambda it: it)):
            import feast  # noqa: F401
    finally:
        del sys.modules["torch"]


def quiet() -> None:
    """Feast says at every source and every retrieval that its Spark parts are experimental, and resets the filters of
    warnings whenever one of its modules is imported; so this is called after such imports."""
    logging.getLogger("feast").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", message=".*experimental feature", category=RuntimeWarning)
    warnings.filterwarnings("ignore", message=".*shadows an attribute in parent", category=UserWarning)
    warnings.filterwarnings("ignore", category=DeprecationWarning, module=r"feast\..*")


_import_feast_lightly()

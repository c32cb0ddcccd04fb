"""What the build steps ask first: is this still what the release was named by?

A release has one id, so one code, one recipe, one set of libraries: an edit between two steps would build it of both.
"""

from contracts.errors import MarqueeError, UsageError
from contracts.release import canonical
from contracts.settings import REPOSITORY, Settings
from jobs.recipes import Recipe
from jobs.release import files, inputs


def require(settings: Settings, release: str, recipe: Recipe) -> None:
    """UsageError where the release was not begun, or code, libraries, threads or recipe are other ones by now. The device
    may be another: in production `begin` runs where no GPU is."""
    try:
        begun = files.provenance(settings, release)
    except MarqueeError as error:
        raise UsageError(str(error)) from error
    then = {"code": begun.code[:12], "threads": begun.threads, **begun.libraries}
    here = {"code": inputs.code_hash(REPOSITORY)[:12], "threads": settings.threads, **inputs.library_versions()}
    other = [f"{name} {then.get(name)}, here {here[name]}" for name in here if then.get(name) != here[name]]
    if canonical(begun.recipe) != canonical(recipe.as_inputs()):
        other.append(f"recipe {begun.recipe.get('name')}, here {recipe.name}, or values in it")
    if other:
        raise UsageError(
            f"release {release} was begun with other inputs than this step has: {'; '.join(other)}. Put them back, or build what "
            f"is here under an id of its own: `marquee release begin --ds {begun.day}` and the steps after it (in Airflow: clear "
            "train.begin with downstream)")

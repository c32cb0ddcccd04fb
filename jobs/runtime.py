"""What every command shares: logs to standard error, the JSON result as the last line of standard output, and the
checks that come before any work.
"""

import fcntl
import functools
import json
import logging
import os
import shutil
import sys
from collections.abc import Callable
from typing import Any

from contracts.errors import UsageError
from contracts.settings import Settings

log = logging.getLogger("marquee")


def configure_logging(verbose: bool = False) -> None:
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.INFO if verbose else logging.WARNING,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        force=True,
    )
    log.setLevel(logging.INFO)


def progress_visible() -> bool:
    """A person watches: draw progress bars."""
    return sys.stderr.isatty()


def emit(result: dict[str, Any]) -> None:
    """Prints the result: one line of JSON, which the launcher reads as the last of standard output; on a terminal, where a
    person looks, a line for each figure."""
    print("\n".join(f"{name}: {_said(value)}" for name, value in result.items()) if sys.stdout.isatty() else line(result), flush=True)


def line(result: dict[str, Any]) -> str:
    """For machines: one line of JSON."""
    return json.dumps(result, default=str, sort_keys=True)


def _said(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)


def require_free_disk(settings: Settings) -> None:
    """Raises UsageError where the home's disk has less than `min_free_gb` left."""
    settings.home.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(settings.home).free / 1e9
    if free < settings.min_free_gb:
        raise UsageError(
            f"only {free:.1f} GB free at {settings.home}; this job asks for {settings.min_free_gb} GB "
            "(MARQUEE_MIN_FREE_GB). Free some space"
        )


def alone(job: str) -> Callable:
    """Decorates a job's `run(settings, …)`: one at a time in a home, since a second would take the first's traces for
    those of a crash. Raises UsageError at once where one is at work; the kernel lets go of the lock however a run ends."""

    def decorate(run: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
        @functools.wraps(run)
        def locked(settings: Settings, *args: Any, **named: Any) -> dict[str, Any]:
            settings.lake.mkdir(parents=True, exist_ok=True)
            with (settings.lake / f".{job}.lock").open("a+") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    file.seek(0)
                    raise UsageError(f"another {job} (pid {file.read()}) is running on this home; try again when it has ended") from None
                file.truncate(0)
                file.write(str(os.getpid()))
                file.flush()
                return run(settings, *args, **named)

        return locked

    return decorate

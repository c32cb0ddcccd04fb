"""What was tried and refused stands in the ledger, with the reason."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from contracts.errors import MarqueeError
from ledger import Ledger


@contextmanager
def noted(ledger: Ledger, release: str, actor: str, details: dict[str, Any]) -> Iterator[None]:
    """A MarqueeError from inside is written down before it goes on; `details` are read then."""
    try:
        yield
    except MarqueeError as error:
        note_once(ledger, release, actor, f"refused: {error}", details)
        raise


def note_once(ledger: Ledger, release: str, actor: str, reason: str, details: dict[str, Any]) -> None:
    """A rerun in the same run that is refused for the same reason adds no second row."""
    last = ledger.transitions(release)[-1]
    if (last.actor, last.reason, last.details.get("run")) != (actor, reason, details.get("run")):
        ledger.note(release, actor, reason, details)

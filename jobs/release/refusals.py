"""What was tried and refused stands in the ledger, with the reason."""

import unicodedata
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


def says_something(reason: str) -> bool:
    """Whether there is anything to read in it: a letter, a digit, a sign; not only spaces or what is never seen."""
    return any(unicodedata.category(char)[0] in "LNPS" for char in reason)


def note_once(ledger: Ledger, release: str, actor: str, reason: str, details: dict[str, Any]) -> None:
    """A rerun in the same run that is refused for the same reason adds no second row."""
    last = ledger.transitions(release)[-1]
    if (last.actor, last.reason, last.details.get("run")) != (actor, reason, details.get("run")):
        ledger.note(release, actor, reason, details)

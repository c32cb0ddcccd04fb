"""What the ledger refuses, and why."""

from contracts.errors import MarqueeError


class UnknownRelease(MarqueeError):
    """No such release in the ledger."""


class ForbiddenTransition(MarqueeError):
    """The state machine has no such step."""


class StaleVersion(MarqueeError):
    """The pointer moved since it was read: read it again and decide anew."""


class LedgerUnavailable(MarqueeError):
    """The ledger's database does not answer, or cannot write."""

"""The errors that a person can act on; the command line turns them into one line and an exit code."""


class MarqueeError(Exception):
    """A job failed for a reason that its message explains (exit code 1)."""


class UsageError(MarqueeError):
    """Wrong use or bad input: the message names the file and the field, and what to do (exit code 2)."""

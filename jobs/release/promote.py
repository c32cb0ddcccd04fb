"""From a judged release to a live one: ask, swap, probe, record; and back: rollback."""

from jobs.release.ask import ask
from jobs.release.probe import probe
from jobs.release.question import QuestionAddress
from jobs.release.record import record
from jobs.release.rollback import rollback
from jobs.release.swap import swap

__all__ = ["QuestionAddress", "ask", "probe", "record", "rollback", "swap"]

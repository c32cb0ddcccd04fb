"""From a judged release to a live one: ask, swap, probe, record; past a gate: request_override; and back: rollback."""

from jobs.release.ask import ask
from jobs.release.override import request_override
from jobs.release.probe import probe
from jobs.release.question import QuestionAddress
from jobs.release.record import reconcile, record
from jobs.release.rollback import rollback
from jobs.release.swap import swap

__all__ = ["QuestionAddress", "ask", "probe", "reconcile", "record", "request_override", "rollback", "swap"]

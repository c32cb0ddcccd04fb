"""`marquee release record`: the ledger agrees with Airflow's own answer, whatever ran, failed or was skipped before.

Fails where the promotion expired or failed, so that no red night looks green.
"""

from typing import Any

from contracts.errors import MarqueeError
from contracts.release import State
from contracts.settings import Settings
from jobs.release.question import APPROVE, REJECT, WAITING, Answer, QuestionAddress, fetch
from ledger import Ledger, ReleaseRow, open_ledger

WAS_LIVE = (State.LIVE, State.RETIRED)


def record(settings: Settings, release: str, question: QuestionAddress) -> dict[str, Any]:
    """Returns who, when and why for a release that is live, rejected or superseded; MarqueeError for every other end."""
    ledger = open_ledger(settings)
    ledger.resolve_overdue("record")
    row = ledger.get(release)
    if row is None:
        raise MarqueeError(f"release {release} is not in the ledger: run `marquee release begin`")
    if row.state == State.AWAITING_APPROVAL:
        row = _close(ledger, row, fetch(settings, question), question)
    _raise_unless_good(ledger, settings, row, question)
    return {"release_id": release, "state": row.state, **_who_when_why(ledger, row)}


def _close(ledger: Ledger, row: ReleaseRow, answer: Answer | None, question: QuestionAddress) -> ReleaseRow:
    """The end of a question that no swap followed."""
    if answer is None:
        raise MarqueeError(f"release {row.release_id}: no question was asked; clear the tasks before it")
    details = answer.details(question)
    if not answer.given:
        if answer.task_state in WAITING:
            raise MarqueeError(f"release {row.release_id}: the question still waits for an answer")
        why = f"nobody answered (the task is {answer.task_state}); silence is a rejection"
        return ledger.move(row.release_id, State.EXPIRED, "record", why, details)
    if answer.chosen == [REJECT]:
        return ledger.move(row.release_id, State.REJECTED, answer.responder or "unknown", answer.reason, details)
    raise MarqueeError(f"release {row.release_id} was answered {answer.chosen} and is not live: {_last_reason(ledger, row)}")


def _raise_unless_good(ledger: Ledger, settings: Settings, row: ReleaseRow, question: QuestionAddress) -> None:
    if row.state in (*WAS_LIVE, State.REJECTED):
        return
    if row.state == State.ROLLED_BACK and any(t.to_state == State.LIVE for t in ledger.transitions(row.release_id)):
        return  # the promotion went well; a person took it back later
    if row.state == State.SUPERSEDED:
        answer = fetch(settings, question)
        if answer is None or answer.chosen != [APPROVE]:
            return
    raise MarqueeError(f"release {row.release_id} is {row.state}: {_last_reason(ledger, row)}")


def _who_when_why(ledger: Ledger, row: ReleaseRow) -> dict[str, Any]:
    """Of the person's answer: the switch that followed an approval, or the rejection."""
    answers = [t for t in ledger.transitions(row.release_id) if t.from_state == State.AWAITING_APPROVAL != t.to_state]
    if not answers:
        return {}
    last = answers[-1]
    return {"who": last.actor, "when": last.details.get("answered_at"), "why": last.reason}


def _last_reason(ledger: Ledger, row: ReleaseRow) -> str:
    rows = ledger.transitions(row.release_id)
    return rows[-1].reason if rows and rows[-1].reason else "the swap did not run"

"""`marquee release record`: the ledger agrees with Airflow's own answer, whatever ran, failed or was skipped before.

Fails where the promotion expired or failed, so that no red night looks green. Where `record` itself was killed,
`reconcile` does the same for every question that still waits.
"""

import logging
from datetime import UTC, datetime
from typing import Any

from contracts import clock
from contracts.errors import MarqueeError
from contracts.release import State
from contracts.settings import Settings
from jobs.release.ask import asked
from jobs.release.question import APPROVE, SWAP_TIME, WAITING, Answer, QuestionAddress, about, fetch
from jobs.release.refusals import note_once
from ledger import Ledger, ReleaseRow, open_ledger

log = logging.getLogger("marquee")

WAS_LIVE = (State.LIVE, State.RETIRED)


def record(settings: Settings, release: str, question: QuestionAddress) -> dict[str, Any]:
    """Returns who, when and why for a release that is live, rejected or superseded; MarqueeError for every other end."""
    ledger = open_ledger(settings)
    ledger.resolve_overdue("record")
    row = ledger.get(release)
    if row is None:
        raise MarqueeError(f"release {release} is not in the ledger: run `marquee release begin`")
    if row.state == State.AWAITING_APPROVAL:
        row = _close(ledger, row, [fetch(settings, address) for address in question.each(settings.approvals_needed)])
    _raise_unless_good(ledger, settings, row, question)
    return {"release_id": release, "state": row.state, **_who_when_why(ledger, row)}


def reconcile(settings: Settings) -> list[str]:
    """Closes what was rejected, or has expired, and was not recorded, and what was answered without a swap; the releases
    that it closed."""
    ledger = open_ledger(settings)
    closed = []
    for row in ledger.releases():
        if row.state != State.AWAITING_APPROVAL:
            continue
        try:
            due = asked(ledger, row.release_id).due
            answers = about(settings, row.evidence_digest)
        except MarqueeError as error:
            log.warning("release %s was not reconciled: %s", row.release_id, error)
            continue
        answered = sum(answer.given for answer in answers) >= settings.approvals_needed
        over = datetime.now(UTC) > due + SWAP_TIME and _quiet(settings, ledger, row) if answered else datetime.now(UTC) > due
        if not _rejected(ledger, row, answers) and over:
            why = f"no swap followed the answer: {_last_reason(ledger, row)}" if answered else "nobody answered in time; silence is a rejection"
            ledger.move(row.release_id, State.EXPIRED, "reconcile", why)
        closed += [row.release_id] if ledger.get(row.release_id).state != State.AWAITING_APPROVAL else []
    return closed


def _close(ledger: Ledger, row: ReleaseRow, answers: list[Answer | None]) -> ReleaseRow:
    """The end of a question that no swap followed."""
    if rejected := _rejected(ledger, row, [answer for answer in answers if answer]):
        return rejected
    for answer in answers:
        if answer is None:
            raise MarqueeError(f"release {row.release_id}: no question was asked; clear the tasks before it")
        if not answer.given:
            return _unanswered(ledger, row, answer)
    why = f"release {row.release_id} was answered {answers[-1].chosen} and is not live: {_last_reason(ledger, row)}"
    note_once(ledger, row.release_id, "record", why, answers[-1].details())
    raise MarqueeError(why)


def _rejected(ledger: Ledger, row: ReleaseRow, answers: list[Answer]) -> ReleaseRow | None:
    """One no is enough."""
    for answer in answers:
        if who := answer.rejected_by:
            return ledger.move(row.release_id, State.REJECTED, who, answer.reason, answer.details())
    return None


def _unanswered(ledger: Ledger, row: ReleaseRow, answer: Answer) -> ReleaseRow:
    """Expired where the time is up. Before that nobody can end the question by setting its task's state by hand."""
    release, due = row.release_id, asked(ledger, row.release_id).due
    if answer.task_state in WAITING:
        raise MarqueeError(f"release {release}: the question still waits for an answer")
    if datetime.now(UTC) >= due:
        why = f"nobody answered (the task is {answer.task_state}); silence is a rejection"
        return ledger.move(release, State.EXPIRED, "record", why, answer.details())
    why = (f"release {release} was not answered: the task {answer.address.task_id} was set to {answer.task_state}. The question is "
           f"open until {due:%Y-%m-%d %H:%M} UTC: clear the task with downstream")
    note_once(ledger, release, "record", why, answer.details())
    raise MarqueeError(why)


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


def _quiet(settings: Settings, ledger: Ledger, row: ReleaseRow) -> bool:
    """Nothing has happened to it for a while: no swap is under way, not even one that is tried again."""
    return clock.now(settings.home) - ledger.transitions(row.release_id)[-1].at > SWAP_TIME


def _last_reason(ledger: Ledger, row: ReleaseRow) -> str:
    """Of what happened or was refused last, other than what `record` said of it."""
    rows = [t for t in ledger.transitions(row.release_id) if t.actor != "record" or t.from_state != t.to_state]
    return rows[-1].reason if rows and rows[-1].reason else "the swap did not run"

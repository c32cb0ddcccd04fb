"""`marquee release swap`: checks the approver's answer at its source, then moves the live pointer in two phases.

Killed at any point, the rerun finds where it stood: proposed, switched, or nothing yet.
"""

import logging
import time
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from contracts import clock
from contracts.errors import MarqueeError
from contracts.release import Manifest, State
from contracts.settings import Settings
from jobs.release import files, launches, override
from jobs.release.ask import asked, refuse_moved, refuse_other_digests
from jobs.release.probe import LATE
from jobs.release.question import SWAP_TIME, Answer, QuestionAddress, about, fetch, refusal
from jobs.release.refusals import note_once, noted
from ledger import Ledger, Pointer, ReleaseRow, StaleVersion, open_ledger

log = logging.getLogger("marquee")

LOAD_SECONDS = 120.0
"""How long replicas may take to load, verify and warm up a candidate."""

PROBE_SECONDS = 180.0
"""From the switch to the deadline; the probe itself takes seconds, but Airflow starts its task after a while."""

POLL_SECONDS = 0.2


@dataclass(frozen=True)
class Approval:
    """Who said yes and why: one person, or two; `details` go into the ledger."""

    who: str
    why: str
    details: dict[str, Any]


def swap(settings: Settings, release: str, question: QuestionAddress, load_seconds: float = LOAD_SECONDS) -> dict[str, Any]:
    """Makes an approved release probing; what was done before stays done.

    MarqueeError, with a row in the ledger that says why, where the answer or the files do not allow it; live keeps
    serving. Where a replica cannot load it in time the release has failed; running again tries again.
    """
    ledger = open_ledger(settings)
    ledger.resolve_overdue("swap")
    row = _known(ledger, release)
    if row.state in (State.PROBING, State.LIVE):
        return {"release_id": release, "state": row.state, "changed": False}
    approval = _checked(ledger, settings, row, question)
    with noted(ledger, release, "swap", approval.details):
        launches.bring_up(settings, ledger, [release])
    two_phases(ledger, release, load_seconds, approval.who, approval.why, approval.details, on_timeout=State.FAILED)
    return {"release_id": release, "state": State.PROBING, "changed": True, "approver": approval.who}


def two_phases(ledger: Ledger, release: str, load_seconds: float, actor: str, reason: str, details: dict[str, Any],
               on_timeout: State | None, without_late: bool = False) -> Pointer:
    """Proposes, waits until every replica has loaded the release, switches. Where one has not in time the proposal is
    withdrawn, the release moves to `on_timeout` (None: stays), and MarqueeError names the replicas. `without_late`: those
    are named in the details instead, where one other has loaded it. `evidence_digest` in `details` is what was approved:
    other evidence is not switched to. What is refused on the way is written down."""
    with noted(ledger, release, "swap", details):
        pointer = propose(ledger, release)
    late, replicas = wait_until_loaded(ledger, release, load_seconds)
    if late and not (without_late and len(late) < len(replicas)):
        why = f"not loaded within {load_seconds:g} s by {', '.join(late)}"
        ledger.withdraw(pointer.version)
        if on_timeout:
            ledger.move(release, on_timeout, "swap", why, details)
        else:
            note_once(ledger, release, "swap", f"refused: {why}", details)
        raise MarqueeError(f"release {release}: {why}; live is as it was. Their logs say why; restart or stop them, then try again")
    if late:
        log.warning("release %s is switched to without %s, which did not load it within %g s: restart or stop them", release,
                    ", ".join(late), load_seconds)
        details = {**details, LATE: late}
    if not replicas:
        log.warning("no replica holds a lease: release %s is switched to unseen", release)
        details = {**details, "warning": "no replica held a lease"}
    deadline = ledger.wall() + timedelta(seconds=PROBE_SECONDS)
    with noted(ledger, release, "swap", details):
        return ledger.switch(pointer.version, deadline, actor=actor, reason=reason, details={**details, "replicas": replicas},
                             evidence_digest=details.get("evidence_digest"))


def propose(ledger: Ledger, release: str) -> Pointer:
    """The pointer with `release` as its candidate."""
    pointer = ledger.pointer()
    if pointer and pointer.candidate == release:
        return pointer
    if pointer and pointer.phase == "probing":
        raise StaleVersion(f"release {pointer.release_id} is being probed: try again when it is live or rolled back")
    return ledger.propose(release, pointer.version if pointer else 0)


def wait_until_loaded(ledger: Ledger, release: str, seconds: float) -> tuple[list[str], list[str]]:
    """(replicas that have not loaded it when time is up, all replicas that hold a lease)."""
    deadline = time.monotonic() + seconds
    while True:
        replicas = ledger.replicas()
        late = [r.replica_id for r in replicas if release not in r.loaded]
        if not late or time.monotonic() > deadline:
            return late, [r.replica_id for r in replicas]
        time.sleep(POLL_SECONDS)


def _known(ledger: Ledger, release: str) -> ReleaseRow:
    row = ledger.get(release)
    if row is None:
        raise MarqueeError(f"release {release} is not in the ledger: run `marquee release begin`")
    return row


def _checked(ledger: Ledger, settings: Settings, row: ReleaseRow, question: QuestionAddress) -> Approval:
    """The answers, which let these very files go live; else MarqueeError, and the ledger says why."""
    answers: list[Answer] = []
    seen: dict[str, Any] = {"run": question.run_id}
    with noted(ledger, row.release_id, "swap", seen):
        row = _approvable(settings, ledger, row)
        manifest = files.verify(settings, row.release_id)
        refuse_other_digests(row, manifest)
        refuse_moved(ledger, manifest)
        question_asked = asked(ledger, row.release_id)
        for address in question.each(settings.approvals_needed):
            answer = fetch(settings, address)
            seen |= answer.details() if answer else {}
            if why := refusal(answer, question_asked, manifest, settings):
                raise MarqueeError(f"release {row.release_id} stays where it is: {why}")
            answers.append(answer)
        if why := _together(settings, ledger, manifest, answers):
            raise MarqueeError(f"release {row.release_id} stays where it is: {why}")
    return _approval(ledger, manifest, answers)


def _approvable(settings: Settings, ledger: Ledger, row: ReleaseRow) -> ReleaseRow:
    """Awaiting approval. A swap that failed for want of a replica may be tried again, for a while, and while no other waits."""
    release = row.release_id
    if row.state == State.FAILED and (failed := ledger.last_move(release)).from_state == State.AWAITING_APPROVAL:
        if clock.now(settings.home) - failed.at > SWAP_TIME:
            raise MarqueeError(f"release {release}: its swap failed at {failed.at:%Y-%m-%d %H:%M} UTC, too long ago for its approval to hold. "
                               f"Judge it again: `marquee judge --release {release}`")
        if waiting := [other.release_id for other in ledger.releases() if other.state == State.AWAITING_APPROVAL]:
            raise MarqueeError(f"release {release}: {waiting[-1]} waits for its answer since; judge it again to have it asked anew")
        return ledger.move(release, State.AWAITING_APPROVAL, "swap", "tried again")
    if row.state != State.AWAITING_APPROVAL:
        raise MarqueeError(f"release {release} is {row.state}: it does not await approval")
    return row


def _together(settings: Settings, ledger: Ledger, manifest: Manifest, answers: list[Answer]) -> str | None:
    """Why good answers do not suffice together: the same person twice, whoever asked for the override, or somebody's no
    to the same evidence, in this run or in another."""
    people = [answer.responder for answer in answers]
    if len(set(people)) < settings.approvals_needed:
        return f"{people[0]} answered twice, and two different people have to approve"
    requested = override.find(ledger, manifest)
    if requested and requested.by in people:
        return f"{requested.by} requested the override, so another approver has to answer"
    for other in about(settings, manifest.evidence_digest):
        if other.rejected_by:
            return f"{other.rejected_by} rejected it in run {other.address.run_id}"
    return None


def _approval(ledger: Ledger, manifest: Manifest, answers: list[Answer]) -> Approval:
    first, *second = answers
    details = {**first.details(), "payload_digest": manifest.payload.payload_digest, "evidence_digest": manifest.evidence_digest}
    details |= {"second": second[0].details()} if second else {}
    if requested := override.find(ledger, manifest):
        details |= {"overridden": requested.model_dump()}
    return Approval(" and ".join(a.responder for a in answers), "; ".join(a.reason for a in answers), details)


__all__ = ["StaleVersion", "propose", "swap", "two_phases", "wait_until_loaded"]

"""`marquee release swap`: checks the approver's answer at its source, then moves the live pointer in two phases.

Killed at any point, the rerun finds where it stood: proposed, switched, or nothing yet.
"""

import logging
import time
from datetime import UTC, datetime, timedelta
from typing import Any

from contracts.errors import MarqueeError
from contracts.release import Manifest, State
from contracts.settings import Settings
from jobs.release import files, launches
from jobs.release.ask import refuse_moved
from jobs.release.question import Answer, QuestionAddress, fetch, refusal
from ledger import Ledger, Pointer, ReleaseRow, StaleVersion, open_ledger

log = logging.getLogger("marquee")

LOAD_SECONDS = 120.0
"""How long replicas may take to load, verify and warm up a candidate."""

PROBE_SECONDS = 180.0
"""From the switch to the deadline; the probe itself takes seconds, but Airflow starts its task after a while."""

POLL_SECONDS = 0.2


def swap(settings: Settings, release: str, question: QuestionAddress, load_seconds: float = LOAD_SECONDS) -> dict[str, Any]:
    """Makes an approved release probing; what was done before stays done.

    MarqueeError, with a row in the ledger that says why, where the answer or the files do not allow it; live keeps
    serving. Where a replica cannot load it in time the release has failed; running again tries again.
    """
    ledger = open_ledger(settings)
    ledger.resolve_overdue("swap")
    row = _approvable(ledger, release)
    if row.state in (State.PROBING, State.LIVE):
        return {"release_id": release, "state": row.state, "changed": False}
    answer = _checked(ledger, settings, row, question)
    launches.bring_up(settings, ledger, [release])
    details = {**answer.details(question), "payload_digest": row.payload_digest, "evidence_digest": row.evidence_digest}
    two_phases(ledger, release, load_seconds, answer.responder, answer.reason, details, on_timeout=State.FAILED)
    return {"release_id": release, "state": State.PROBING, "changed": True, "approver": answer.responder}


def two_phases(ledger: Ledger, release: str, load_seconds: float, actor: str, reason: str, details: dict[str, Any],
               on_timeout: State | None) -> Pointer:
    """Proposes, waits until every replica has loaded the release, switches. Where one has not in time the proposal is
    withdrawn, the release moves to `on_timeout` (None: stays), and MarqueeError names the replicas."""
    pointer = propose(ledger, release)
    late, replicas = wait_until_loaded(ledger, release, load_seconds)
    if late:
        why = f"not loaded within {load_seconds:g} s by {', '.join(late)}"
        ledger.withdraw(pointer.version)
        if on_timeout:
            ledger.move(release, on_timeout, "swap", why, details)
        raise MarqueeError(f"release {release}: {why}; live is as it was")
    if not replicas:
        log.warning("no replica holds a lease: release %s is switched to unseen", release)
        details = {**details, "warning": "no replica held a lease"}
    deadline = datetime.now(UTC) + timedelta(seconds=PROBE_SECONDS)
    return ledger.switch(pointer.version, deadline, actor=actor, reason=reason, details={**details, "replicas": replicas})


def propose(ledger: Ledger, release: str) -> Pointer:
    """The pointer with `release` as its candidate."""
    pointer = ledger.pointer()
    if pointer and pointer.candidate == release:
        return pointer
    if pointer and pointer.phase == "probing":
        raise MarqueeError(f"release {pointer.release_id} is being probed: try again when it is live or rolled back")
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


def _approvable(ledger: Ledger, release: str) -> ReleaseRow:
    """The release's row: awaiting approval, or past it. A swap that failed for want of a replica may be tried again."""
    row = ledger.get(release)
    if row is None:
        raise MarqueeError(f"release {release} is not in the ledger: run `marquee release begin`")
    if row.state == State.FAILED and ledger.transitions(release)[-1].from_state == State.AWAITING_APPROVAL:
        return ledger.move(release, State.AWAITING_APPROVAL, "swap", "tried again")
    if row.state not in (State.AWAITING_APPROVAL, State.PROBING, State.LIVE):
        raise MarqueeError(f"release {release} is {row.state}: it does not await approval")
    return row


def _checked(ledger: Ledger, settings: Settings, row: ReleaseRow, question: QuestionAddress) -> Answer:
    """The answer, which lets these very files go live; else MarqueeError, and the ledger says why."""
    answer = None
    try:
        manifest = files.verify(settings, row.release_id)
        _refuse_other_digests(row, manifest)
        refuse_moved(ledger, manifest)
        answer = fetch(settings, question)
        if why := refusal(answer, manifest, settings):
            raise MarqueeError(f"release {row.release_id} stays where it is: {why}")
    except MarqueeError as error:
        seen = answer.details(question) if answer else {"run": question.run_id}
        ledger.note(row.release_id, "swap", f"refused: {error}", seen)
        raise
    return answer


def _refuse_other_digests(row: ReleaseRow, manifest: Manifest) -> None:
    asked = (row.payload_digest, row.evidence_digest, row.compared_with)
    if asked != (manifest.payload.payload_digest, manifest.evidence_digest, manifest.compared_with):
        raise MarqueeError(f"release {row.release_id}: the manifest is not the one that the question was asked about")


__all__ = ["StaleVersion", "propose", "swap", "two_phases", "wait_until_loaded"]

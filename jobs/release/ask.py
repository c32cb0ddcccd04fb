"""`marquee release ask`: the question that an approver answers, and the end of older questions."""

from datetime import UTC, datetime
from typing import Any

from contracts import question as questions
from contracts import working_hours
from contracts.errors import MarqueeError
from contracts.question import Question
from contracts.release import Manifest, State
from contracts.settings import Settings
from jobs.release import files, override
from jobs.release.override import Override
from jobs.release.refusals import noted
from ledger import Ledger, ReleaseRow, open_ledger

KEY = "question"
"""Where the ledger keeps it, with the move to awaiting approval."""

ANSWERED = (State.PROBING, State.LIVE, State.RETIRED)
"""Asked and approved before: a rerun gives the same text and changes nothing."""

ASKABLE = (State.JUDGED, State.BLOCKED, State.AWAITING_APPROVAL)
"""Everything else has ended; what expired is judged, or its override requested, again."""


def ask(settings: Settings, release: str) -> dict[str, Any]:
    """Verifies the release, moves it to awaiting approval, supersedes older questions; returns the question.

    MarqueeError where a file changed, the gates blocked it and nobody requested an override, it has ended, live moved
    since it was judged, or a newer one waits.
    """
    ledger = open_ledger(settings)
    ledger.resolve_overdue("ask")
    row = ledger.get(release)
    if row is None:
        raise MarqueeError(f"release {release} is not in the ledger: run `marquee release begin`")
    with noted(ledger, release, "ask", {"evidence_digest": row.evidence_digest}):
        manifest = files.verify_entered(settings, row)
        if row.state not in ANSWERED:
            _open(settings, ledger, row, manifest)
    question = asked(ledger, release)
    files.write(_path(settings, release), question)
    return {
        "release_id": release,
        "state": ledger.get(release).state,
        "payload_digest": manifest.payload.payload_digest,
        "evidence_digest": manifest.evidence_digest,
        "compared_with": manifest.compared_with,
        "subject": question.subject,
        "card": question.body,
        "due": question.due.isoformat(),
        "approvers": settings.approver_names(),
        "hours": settings.approval_hours,
    }


def asked(ledger: Ledger, release: str) -> Question:
    """The question as it was opened last, kept in the ledger: what an approver read, whatever the code says today.
    MarqueeError where there was none."""
    for transition in reversed(ledger.transitions(release)):
        if KEY in transition.details:
            return Question.model_validate(transition.details[KEY])
    raise MarqueeError(f"release {release} was never asked about: trigger `promote` with its partition key")


def _compose(settings: Settings, manifest: Manifest, requested: Override | None) -> Question:
    """Wall time, fixed when the question is opened: clearing a task does not move it."""
    release, now, working = manifest.release_id, datetime.now(UTC), working_hours.parse(settings.working_hours)
    half, due = (working_hours.due(now, hours, working) for hours in (settings.approval_hours / 2, settings.approval_hours))
    subject = f"Promote {release}?" if requested is None else f"OVERRIDE {', '.join(requested.gates)} and promote {release}?"
    body = f"{card(settings, manifest, requested)}\n\nOpen until {due:%Y-%m-%d %H:%M} UTC; no answer is a rejection."
    return Question(release_id=release, subject=subject, body=body, asked_at=now, half=half, due=due)


def card(settings: Settings, manifest: Manifest, requested: Override | None) -> str:
    """Markdown: an override first, then the judge's card and the digests that the answer binds to."""
    path = files.evidence_path(files.folder(settings, manifest.release_id), files.CARD)
    if path.name not in {name.rpartition("/")[2] for name in manifest.evidence}:
        raise MarqueeError(f"release {manifest.release_id}: the evidence has no {files.CARD}; run `marquee judge` again")
    return "\n\n".join((
        *([requested.first_line()] if requested else []),
        path.read_text().strip(),
        f"Payload digest `{manifest.payload.payload_digest}`  \nEvidence digest `{manifest.evidence_digest}`  \n"
        f"Compared with {manifest.compared_with or 'nothing: the first release'}",
        "The full report is the tab *Evidence* of this run.",
    ))


def refuse_moved(ledger: Ledger, manifest: Manifest) -> None:
    """MarqueeError where the live release is not the one that the evidence compares with."""
    pointer = ledger.pointer()
    live = pointer.release_id if pointer else None
    if pointer and pointer.phase == "probing":
        raise MarqueeError(f"release {live} is being probed: try again when it is live or rolled back")
    if live != manifest.compared_with:
        raise MarqueeError(
            f"live moved: release {manifest.release_id} was judged against {manifest.compared_with or 'nothing'}, and "
            f"{live or 'nothing'} is live. Judge again: `marquee judge --release {manifest.release_id}`"
        )


def refuse_other_digests(row: ReleaseRow, manifest: Manifest) -> None:
    """MarqueeError where the manifest is another than at the time of the question."""
    asked = (row.payload_digest, row.evidence_digest, row.compared_with)
    if asked != (manifest.payload.payload_digest, manifest.evidence_digest, manifest.compared_with):
        raise MarqueeError(f"release {row.release_id}: the manifest is not the one that the question was asked about")


def _open(settings: Settings, ledger: Ledger, row: ReleaseRow, manifest: Manifest) -> None:
    """From judged, or blocked with an override, to awaiting approval. A question that waits already keeps its time."""
    release = row.release_id
    if row.state not in ASKABLE:
        raise MarqueeError(f"release {release} is {row.state}: its question is closed. Judge it again to have it asked anew: "
                           f"`marquee judge --release {release}`")
    requested = override.find(ledger, manifest)
    if manifest.verdict != "passed" and requested is None:
        gates = ", ".join(manifest.failed_gates) or "no gate named"
        raise MarqueeError(f"release {release} is {manifest.verdict} by its gates: {gates}")
    if row.state == State.BLOCKED and requested is None:
        raise MarqueeError(f"release {release} is blocked in the ledger and {manifest.verdict} by its manifest: run `marquee judge` again")
    if row.state == State.AWAITING_APPROVAL:
        refuse_other_digests(row, manifest)
        if asked(ledger, release).due < datetime.now(UTC):
            ledger.move(release, State.EXPIRED, "ask", "nobody answered in time; silence is a rejection")
            raise MarqueeError(f"release {release} is expired: nobody answered in time. Judge it again to have it asked anew")
    refuse_moved(ledger, manifest)
    question = _compose(settings, manifest, requested)
    if row.state == State.BLOCKED:
        ledger.move(release, State.JUDGED, requested.by, f"override requested: {requested.reason}", {"gates": requested.gates})
    details = {"evidence_digest": manifest.evidence_digest, "compared_with": manifest.compared_with, KEY: question.model_dump(mode="json")}
    waits = ledger.ask(release, manifest.payload.payload_digest, manifest.evidence_digest, manifest.compared_with,
                       "judged, and waits for a person", details)
    if waits.release_id != release:
        raise MarqueeError(f"release {release} is superseded: {waits.release_id} is newer and waits for its answer")


def _path(settings: Settings, release: str):
    path = questions.path(settings.home, release)
    path.parent.mkdir(exist_ok=True)
    return path

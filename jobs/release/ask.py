"""`marquee release ask`: the question that an approver answers, and the end of older questions."""

from typing import Any

from contracts.errors import MarqueeError
from contracts.release import Manifest, State
from contracts.settings import Settings
from jobs.release import files
from ledger import Ledger, ReleaseRow, open_ledger

ANSWERED = (State.PROBING, State.LIVE, State.RETIRED)
"""Asked and approved before: a rerun gives the same text and changes nothing."""


def ask(settings: Settings, release: str) -> dict[str, Any]:
    """Verifies the release, moves it to awaiting approval, supersedes older questions; returns the question.

    MarqueeError where a file changed, the gates blocked it, live moved since it was judged, or a newer one waits.
    """
    manifest = files.verify(settings, release)
    ledger = open_ledger(settings)
    ledger.resolve_overdue("ask")
    row = ledger.get(release)
    if row is None:
        raise MarqueeError(f"release {release} is not in the ledger: run `marquee release begin`")
    if row.state not in ANSWERED:
        _refuse_blocked(manifest)
        refuse_moved(ledger, manifest)
        _supersede(ledger, row)
        ledger.set_digests(release, manifest.payload.payload_digest, manifest.evidence_digest, manifest.compared_with)
        ledger.move(release, State.AWAITING_APPROVAL, "ask", "judged, and waits for a person",
                    {"evidence_digest": manifest.evidence_digest, "compared_with": manifest.compared_with})
    return {
        "release_id": release,
        "state": ledger.get(release).state,
        "payload_digest": manifest.payload.payload_digest,
        "evidence_digest": manifest.evidence_digest,
        "compared_with": manifest.compared_with,
        "subject": f"Promote {release}?",
        "card": card(settings, manifest),
        "approvers": settings.approver_names(),
        "hours": settings.approval_hours,
    }


def card(settings: Settings, manifest: Manifest) -> str:
    """Markdown: the judge's card and the digests that the answer binds to."""
    path = files.evidence_path(files.folder(settings, manifest.release_id), files.CARD)
    if path.name not in {name.rpartition("/")[2] for name in manifest.evidence}:
        raise MarqueeError(f"release {manifest.release_id}: the evidence has no {files.CARD}; run `marquee judge` again")
    return "\n\n".join((
        path.read_text().strip(),
        f"Payload digest `{manifest.payload.payload_digest}`  \nEvidence digest `{manifest.evidence_digest}`  \n"
        f"Compared with {manifest.compared_with or 'nothing: the first release'}",
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


def _refuse_blocked(manifest: Manifest) -> None:
    if manifest.verdict != "passed":
        gates = ", ".join(manifest.failed_gates) or "no gate named"
        raise MarqueeError(f"release {manifest.release_id} is {manifest.verdict} by its gates: {gates}")


def _supersede(ledger: Ledger, row: ReleaseRow) -> None:
    """One question at a time: the newest candidate's."""
    for other in ledger.releases():
        if other.state != State.AWAITING_APPROVAL or other.release_id == row.release_id:
            continue
        older, newer = sorted((other, row), key=lambda r: (r.day, r.created_at))
        ledger.move(older.release_id, State.SUPERSEDED, "ask", f"{newer.release_id} is newer", {"by": newer.release_id})
        if newer is not row:
            raise MarqueeError(f"release {row.release_id} is superseded: {newer.release_id} is newer and waits for its answer")

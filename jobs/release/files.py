"""The folder of a release: reading it, writing into it so that a kill leaves the old or the new, verifying it."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from contracts import durable
from contracts.errors import MarqueeError, UsageError
from contracts.release import (
    EVIDENCE,
    MANIFEST,
    PAYLOAD,
    PROVENANCE,
    FileEntry,
    Manifest,
    Payload,
    Provenance,
    evidence_digest,
    file_entry,
    payload_digest,
)
from contracts.settings import Settings
from ledger import ReleaseRow

CARD = "card.md"
GATES = "gates.json"

M = TypeVar("M", bound=BaseModel)


def folder(settings: Settings, release: str) -> Path:
    """The release's folder; UsageError where there is none or the name is no plain name."""
    path = settings.releases / release
    if not release or Path(release).name != release or not path.is_dir():
        raise UsageError(f"no release {release!r} under {settings.releases}; `marquee release list` shows the ones there are")
    return path


def provenance(settings: Settings, release: str) -> Provenance:
    return read(folder(settings, release) / PROVENANCE, Provenance, "run `marquee release begin`")


def payload(settings: Settings, release: str) -> Payload:
    return read(folder(settings, release) / PAYLOAD, Payload, "run `marquee release seal`")


def manifest(settings: Settings, release: str) -> Manifest:
    return read(folder(settings, release) / MANIFEST, Manifest, "run `marquee judge`")


def read(path: Path, model: type[M], otherwise: str) -> M:
    """The file as `model`; MarqueeError that says what to do where it is missing or of another form."""
    try:
        return model.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise MarqueeError(f"{path} is missing: {otherwise}") from None
    except ValidationError as error:
        first = error.errors()[0]
        raise MarqueeError(f"{path} is not a {model.__name__}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None


def write(path: Path, model: BaseModel) -> None:
    """Durable and atomic."""
    durable.write(path, model.model_dump_json(indent=1) + "\n")


def evidence_path(root: Path, name: str) -> Path:
    """Where the manifest's evidence file lies; names stand relative to the evidence folder or to the release."""
    return root / name if name.startswith(f"{EVIDENCE}/") else root / EVIDENCE / name


def verify(settings: Settings, release: str) -> Manifest:
    """The manifest, after every size, SHA-256 and digest in it was computed anew; MarqueeError names what differs."""
    root, found = folder(settings, release), manifest(settings, release)
    wrong = [name for name, entry in found.payload.files.items() if not is_whole(root / name, entry)]
    wrong += [name for name, entry in found.evidence.items() if not is_whole(evidence_path(root, name), entry)]
    wrong += [PAYLOAD] * (payload(settings, release) != found.payload)
    _refuse_torn(release, wrong, MANIFEST)
    if (release, release) != (found.release_id, found.payload.release_id):
        raise MarqueeError(f"release {release}: {MANIFEST} speaks of {found.release_id}")
    if payload_digest(found.payload.files) != found.payload.payload_digest:
        raise MarqueeError(f"release {release}: the payload digest does not cover the files that {MANIFEST} names")
    if evidence_digest(found.evidence, found.payload.payload_digest, found.compared_with) != found.evidence_digest:
        raise MarqueeError(f"release {release}: the evidence digest does not cover the evidence that {MANIFEST} names")
    _verify_verdict(root, found)
    return found


def verify_entered(settings: Settings, row: ReleaseRow) -> Manifest:
    """`verify`, and the digests are those that the ledger has: files that agree with each other may be a copy of others."""
    found = verify(settings, row.release_id)
    digests = {"payload": (row.payload_digest, found.payload.payload_digest), "evidence": (row.evidence_digest, found.evidence_digest)}
    for name, (entered, there) in digests.items():
        if entered and entered != there:
            raise MarqueeError(f"release {row.release_id}: its {name} digest is {there[:12]}, and the ledger has {entered[:12]}: these are "
                               "other files than were sealed and judged. Restore them")
    return found


def verify_payload(settings: Settings, row: ReleaseRow, names: Iterable[str]) -> None:
    """Some of the payload's files are what was sealed; MarqueeError names those that are not."""
    root, found = folder(settings, row.release_id), payload(settings, row.release_id)
    if payload_digest(found.files) != found.payload_digest or row.payload_digest not in (None, found.payload_digest):
        raise MarqueeError(f"release {row.release_id}: {PAYLOAD} is not what was sealed")
    wrong = [name for name in names if name not in found.files or not is_whole(root / name, found.files[name])]
    _refuse_torn(row.release_id, wrong, PAYLOAD)


def _refuse_torn(release: str, wrong: list[str], by: str) -> None:
    if wrong:
        raise MarqueeError(f"release {release} is torn: {', '.join(sorted(wrong))} differ from {by}")


def _verify_verdict(root: Path, found: Manifest) -> None:
    """Verdict and failed gates stand outside the digests: they are what the gates, which are covered, say."""
    if not found.evidence:
        return
    name = next((name for name in found.evidence if name.rpartition("/")[2] == GATES), None)
    if name is None:
        raise MarqueeError(f"release {found.release_id}: the evidence has no {GATES}; run `marquee judge` again")
    gates = json.loads(evidence_path(root, name).read_bytes())["gates"]
    failed = sorted(gate["name"] for gate in gates if gate["verdict"] == "failed")
    if other := sorted({*failed} ^ {*found.failed_gates}):
        raise MarqueeError(f"release {found.release_id}: {MANIFEST} and {GATES} do not name the same failed gates: {', '.join(other)}")
    if found.verdict != (verdict := "blocked" if failed else "passed"):
        raise MarqueeError(f"release {found.release_id}: {MANIFEST} says {found.verdict}, and by {GATES} it is {verdict}")


def is_whole(path: Path, entry: FileEntry) -> bool:
    """The file is there and is what its entry says."""
    return path.is_file() and file_entry(path) == entry

"""`marquee release seal`: the build is complete. Checks that the files agree with each other, then writes
`payload.json` with their hashes."""

import logging
from contextlib import closing
from pathlib import Path
from typing import Any

from contracts import durable, milvus
from contracts.errors import MarqueeError
from contracts.release import (
    PAYLOAD,
    PAYLOAD_FILES,
    RANKER,
    SPEC,
    Payload,
    ReleaseSpec,
    State,
    collection_name,
    file_entry,
    payload_digest,
)
from contracts.settings import Settings
from jobs import receipts
from jobs.release import files, sanity
from ledger import Ledger, open_ledger

log = logging.getLogger("marquee")

OPEN = (State.BUILDING, State.FAILED)
"""States in which the files may still change."""


def run(settings: Settings, release: str) -> dict[str, Any]:
    """Seals the release; again: nothing, where the files are those that were sealed.

    MarqueeError where a file is missing, files disagree, or a sealed file changed.
    """
    root = files.folder(settings, release)
    spec = files.read(root / SPEC, ReleaseSpec, "run `marquee ranker`, the last step of the build")
    names = needed(spec)
    missing = [name for name in names if not (root / name).is_file()]
    if missing:
        raise MarqueeError(f"release {release} lacks {', '.join(missing)}: run the build steps again")
    _check_identity(settings, release, spec)
    _check_receipts(settings, release)
    rows = sanity.check(root, spec)
    sealed = _payload(root, release, names)
    ledger = open_ledger(settings)
    _write(ledger, root, sealed)
    return {
        "release_id": release, "payload_digest": sealed.payload_digest, "files": len(sealed.files),
        "bytes": sum(entry.size for entry in sealed.files.values()), "titles": rows,
        "collection_rows": collection_rows(settings, spec, rows), "state": ledger.get(release).state,
    }


def needed(spec: ReleaseSpec) -> list[str]:
    """The payload's files: all, but the tree model only where the ranker is one."""
    return [name for name in PAYLOAD_FILES if name != RANKER or spec.ranker.kind == "lambdamart"]


def collection_rows(settings: Settings, spec: ReleaseSpec, expected: int) -> int | None:
    """Rows of each Milvus collection; MarqueeError where one has fewer or more than titles. None, with a warning,
    where Milvus does not answer: the collections are caches that can be rebuilt."""
    from pymilvus import MilvusClient
    from pymilvus.exceptions import MilvusException

    try:
        with closing(MilvusClient(**settings.milvus_connection(), timeout=5)) as client:
            for name in spec.collections:
                if not client.has_collection(name):
                    raise MarqueeError(f"Milvus has no collection {name}: run `marquee index --release {spec.release_id}`")
                rows = milvus.count(client, name, timeout=10)
                if rows != expected:
                    raise MarqueeError(f"collection {name} has {rows} rows for {expected} titles: run `marquee index` again")
    except MilvusException as error:
        log.warning("could not count %s at %s: %s", spec.collection, settings.milvus_address(), error)
        return None
    return expected


def _check_identity(settings: Settings, release: str, spec: ReleaseSpec) -> None:
    day = files.provenance(settings, release).day
    expected = {"release_id": release, "day": day, "collection": collection_name(release)}
    for field, value in expected.items():
        if getattr(spec, field) != value:
            raise MarqueeError(f"release {release}: {SPEC} says {field} = {getattr(spec, field)!r}, not {value!r}")


def _check_receipts(settings: Settings, release: str) -> None:
    """Files that agree with each other may still be those of another run."""
    if changed := receipts.changed(settings, release):
        said = ", ".join(f"{name} (`marquee {step}`)" for name, step in sorted(changed.items()))
        raise MarqueeError(f"release {release}: not what its build step made: {said}. Run the named step and those after it again")


def _payload(root: Path, release: str, names: list[str]) -> Payload:
    for name in names:
        durable.sync(root / name)
    entries = {name: file_entry(root / name) for name in names}
    return Payload(release_id=release, files=entries, payload_digest=payload_digest(entries))


def _write(ledger: Ledger, root: Path, sealed: Payload) -> None:
    """Writes the payload file and the ledger, in this order: a kill in between is mended by the rerun."""
    row = ledger.get(sealed.release_id)
    if row is None:
        raise MarqueeError(f"release {sealed.release_id} is not in the ledger: run `marquee release begin --ds DAY`")
    if row.state in OPEN:
        files.write(root / PAYLOAD, sealed)
        ledger.set_digests(row.release_id, payload_digest=sealed.payload_digest)
        ledger.begin(row.release_id, row.day, actor="seal")  # a failed one builds again
        ledger.move(row.release_id, State.BUILT, actor="seal", details={"payload_digest": sealed.payload_digest})
        return
    before = files.read(root / PAYLOAD, Payload, "the release was sealed, but its payload file is gone")
    if before != sealed or row.payload_digest != sealed.payload_digest:
        changed = sorted(n for n in {*before.files, *sealed.files} if before.files.get(n) != sealed.files.get(n))
        raise MarqueeError(
            f"release {row.release_id} is {row.state}, and {', '.join(changed) or 'its digest'} differ from what was sealed: "
            "it is torn. Restore the files, or build again under a new id"
        )

"""`marquee release collect`: releases that nobody can go back to give up what serves: their collections and large files.

Kept are: what a pointer names (live, candidate, the one before), what a replica with a lease has loaded (it reports a
release for as long as a request may still be on it), whatever is on its way, and the newest few that retired, that were
rolled back (a probe that failed counts here) and that were refused. Manifest, provenance and evidence stay for ever.

The ledger says `collected` before anything is deleted, by compare-and-swap against the pointers: a release is either
proposed or collected. Killed at any point, the next run deletes what is left.
"""

import logging
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from contracts.release import PAYLOAD_FILES, State, collection_name
from contracts.settings import Settings
from ledger import Ledger, open_ledger
from ledger.states import COLLECTABLE

log = logging.getLogger("marquee")

ACTOR = "collect"
KEEP = 3
"""So many that were live can be returned to, so many that were rolled back and so many that were refused can be looked
into, beside those in use."""


def run(settings: Settings, keep: int = KEEP, dry_run: bool = False) -> dict[str, Any]:
    """Collects; again: nothing. `dry_run` only says what would go and why the rest stays."""
    ledger = open_ledger(settings)
    candidates, kept = choose(ledger, keep)
    if dry_run:
        return {"collected": [], "would_collect": candidates, "kept": kept, "collections": [], "files": 0, "bytes": 0}
    collected = [release for release in candidates if ledger.collect(release, ACTOR, f"not among the newest {keep}, and not in use")]
    gone = [row.release_id for row in ledger.releases() if row.state == State.COLLECTED]
    dropped, waiting = drop_collections(settings, ledger, gone)
    files, size = delete_files(settings, gone)
    return {"collected": collected, "kept": kept, "collections": dropped, "collections_waiting": waiting, "files": files, "bytes": size}


def choose(ledger: Ledger, keep: int) -> tuple[list[str], dict[str, str]]:
    """(releases to collect, the others with why they stay). Kinds are counted apart, so that candidates which fail one
    after the other leave what was live alone; the newest that was live stays whatever `keep` is."""
    in_use, stay = ledger.in_use(), {}
    rolled_back, refused = [], []
    for row in sorted(ledger.releases(), key=lambda row: (ledger.last_move(row.release_id).at, row.release_id), reverse=True):
        if row.state == State.COLLECTED:
            continue
        if row.release_id in in_use:
            stay[row.release_id] = in_use[row.release_id]
        elif row.state not in COLLECTABLE:
            stay[row.release_id] = row.state.value
        elif row.state != State.RETIRED:
            (rolled_back if row.state == State.ROLLED_BACK else refused).append(row.release_id)
    retired = ledger.retired()
    newest, were_live = retired[:1], [release for release in retired if release not in in_use]
    gone = []
    for releases, why in ((were_live, "can be returned to"), (rolled_back, "rolled back not long ago"), (refused, "refused not long ago")):
        kept = {*releases[:keep], *newest}
        stay |= {release: why for release in releases if release in kept}
        gone += [release for release in releases if release not in kept]
    return sorted(gone), stay


def drop_collections(settings: Settings, ledger: Ledger, releases: Iterable[str]) -> tuple[list[str], list[str]]:
    """(collections dropped, those that wait: an alias points at one, or a replica still reports its release)."""
    from pymilvus import MilvusClient
    from pymilvus.exceptions import MilvusException

    dropped, waiting = [], []
    wanted = [collection_name(release) for release in releases]
    if not wanted:
        return dropped, waiting
    try:
        with closing(MilvusClient(**settings.milvus_connection(), timeout=10)) as client:
            for name in sorted(of_releases(client.list_collections(), wanted)):
                if client.list_aliases(collection_name=name).get("aliases") or is_read(ledger, name):
                    waiting.append(name)
                    continue
                client.drop_collection(name)
                dropped.append(name)
    except MilvusException as error:
        log.warning("collections stay, Milvus at %s does not answer: %s", settings.milvus_address(), error)
    return dropped, waiting


def is_read(ledger: Ledger, name: str) -> bool:
    """A pointer names the collection's release, or a replica reports it."""
    return any(of_releases([name], map(collection_name, ledger.in_use())))


def of_releases(names: Iterable[str], collections: Iterable[str]) -> Iterator[str]:
    """Those of the names that belong to one of the releases' collections: it, or one of its groups `<it>_<number>`."""
    known = set(collections)
    for name in names:
        base, _, number = name.rpartition("_")
        if name in known or (number.isdigit() and base in known):
            yield name


def delete_files(settings: Settings, releases: Iterable[str]) -> tuple[int, int]:
    """(files, bytes) of collected releases that were deleted."""
    files, size = 0, 0
    for release in releases:
        for path in heavy_files(settings.releases / release):
            size += path.stat().st_size
            path.unlink()
            files += 1
    return files, size


def heavy_files(folder: Path) -> list[Path]:
    """What serves: all that the payload covers but the spec, which is small and says how it served."""
    return [path for name in PAYLOAD_FILES if (path := folder / name).is_file() and path.suffix != ".json"]

"""`marquee doctor`: finds what a crash left behind, says what it is and what becomes of it; with --fix, removes or mends it.

Each check yields findings. Nothing that a pointer, a replica, an alias or a running process may need is ever removed, and
nothing that is not certain to be a leftover: those findings stay for a person.
"""

import logging
import re
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from shutil import rmtree
from typing import Any

import numpy as np
import psutil

from contracts import milvus
from contracts.errors import MarqueeError, UsageError
from contracts.landing import TABLES
from contracts.marts import RAW
from contracts.release import EVIDENCE, ITEM_VECTORS, MANIFEST, SPEC, ReleaseSpec, State, collection_name
from contracts.settings import Settings
from jobs.release import collect, files
from jobs.release.probe import ALIAS, move_alias
from jobs.release.rollback import WAS_LIVE
from ledger import Ledger, open_ledger

log = logging.getLogger("marquee")

ASIDE_PID = re.compile(r"^\..+\.(\d+)$|^\.(\d+)\..+$")
ASIDE_LANDED = re.compile(r"^\.\d{4}-\d{2}-\d{2}(\.\.\d{4}-\d{2}-\d{2})?\.\d+$")
"""In landing other programs write too: jobs/sources/landing.py's own names alone."""
ASIDE_NEW = re.compile(r"^\..+\.new$")
OUR_COLLECTION = re.compile(r"^titles_\d{4}_\d{2}_\d{2}_[0-9a-f]{10}(_\d+)?$")
AUDIT_BRANCH = "audit"  # jobs/lake/raw.py

OLD_ASIDE_SECONDS = 3600.0
"""A file aside whose process is not here is a leftover after this: it may run in another pod on the same volume. The
longest write takes minutes."""
STUCK_SECONDS = 24 * 3600.0
"""A build that has written nothing for a day has no process any more."""
LEASES_KEPT = timedelta(hours=1)

SWITCHABLE = (State.AWAITING_APPROVAL, *WAS_LIVE)
BUILT_STATES = (State.BUILT, State.JUDGED, State.AWAITING_APPROVAL, State.PROBING, State.LIVE)

Rebuild = Callable[[Settings, str], int]
Check = Callable[[Settings, Ledger], "Iterator[Finding]"]


@dataclass
class Finding:
    """`kind` for machines; `why` and `then` for people. `fix` is None where a person has to act."""

    kind: str
    where: str
    why: str
    then: str
    fix: Callable[[], Any] | None = None
    fixed: bool = False
    failed: str = ""

    def as_json(self) -> dict[str, Any]:
        said = {key: value for key, value in asdict(self).items() if key != "fix"}
        return said | {"fixable": self.fix is not None}


def run(settings: Settings, fix: bool, rebuild: Rebuild) -> list[Finding]:
    """Everything found, in the order of its weight; fixed where asked for. `rebuild` makes a release's collection again
    (jobs/index/rebuild.py)."""
    if not settings.home.is_dir():
        raise UsageError(f"{settings.home}: there is no such home; MARQUEE_HOME names it, and `marquee up` or `make demo` begins one")
    ledger = open_ledger(settings)
    found = []
    for check in (overdue_probe, dead_proposal, torn_releases, half_evidence, stuck_builds, lost_alias, expired_leases, collected_files,
                  staging_files, dead_pid_files, audit_branches, partial(lost_collections, rebuild=rebuild), orphan_collections):
        found += _attempted(check, settings, ledger, fix)
    return found


def _attempted(check: Check, settings: Settings, ledger: Ledger, fix: bool) -> Iterator[Finding]:
    """What a check finds. One that fails, or a repair that does, keeps no other from being tried."""
    name = getattr(check, "func", check).__name__
    try:
        for finding in check(settings, ledger):
            if fix and finding.fix:
                try:
                    finding.fix()
                    finding.fixed = True
                except Exception as error:
                    finding.failed = _said(error)
            yield finding
    except Exception as error:
        yield Finding("failed_check", name, _said(error), "what it looks at is damaged, and was not looked at to the end")


def _said(error: Exception) -> str:
    return str(error) if isinstance(error, (MarqueeError, OSError)) else f"{type(error).__name__}: {error}"


def as_text(found: list[Finding]) -> str:
    if not found:
        return "all is well"
    lines = []
    for one in found:
        done = "fixed" if one.fixed else f"could not be fixed: {one.failed}" if one.failed else "--fix" if one.fix else "by hand"
        lines.append(f"{one.kind}: {one.where}\n  why:  {one.why}\n  then: {one.then} [{done}]")
    return "\n".join(lines)


# --- what serves --------------------------------------------------------------------------------------------------------

def overdue_probe(settings: Settings, ledger: Ledger) -> Iterator[Finding]:
    pointer = ledger.pointer()
    if pointer and pointer.phase == "probing" and pointer.deadline <= ledger.wall():
        yield Finding("overdue_probe", pointer.release_id, f"its probe should have ended by {pointer.deadline:%Y-%m-%d %H:%M:%S} UTC, and "
                      "whoever made it is gone", f"back to {pointer.previous or 'no release'}", lambda: ledger.resolve_overdue("doctor"))


def dead_proposal(settings: Settings, ledger: Ledger) -> Iterator[Finding]:
    """A candidate that can no longer be switched to: replicas would hold it in memory for ever."""
    pointer = ledger.pointer()
    row = ledger.get(pointer.candidate) if pointer and pointer.candidate else None
    if row and row.state not in SWITCHABLE:
        yield Finding("dead_proposal", row.release_id, f"replicas are asked to load it, and it is {row.state}", "the proposal is withdrawn",
                      lambda: ledger.withdraw(pointer.version))


def torn_releases(settings: Settings, ledger: Ledger) -> Iterator[Finding]:
    """Releases that serve or may come to serve, whose files are not what their manifest and the ledger say."""
    for release in sorted(_needed(ledger)):
        row = ledger.get(release)
        if row is None:
            yield Finding("unknown_release", release, "a replica reports it, and the ledger does not know it: it was put back from a copy",
                          "restart that replica; `marquee release list` shows what the ledger has")
            continue
        try:
            files.verify_entered(settings, row)
        except MarqueeError as error:
            yield Finding("torn_release", release, str(error),
                          "restore the files from a copy; where it is live, `marquee release rollback --reason …` first")


def half_evidence(settings: Settings, ledger: Ledger) -> Iterator[Finding]:
    """Evidence that no manifest names: the judge was killed between the two."""
    for row in ledger.releases():
        folder = settings.releases / row.release_id
        if row.state == State.BUILT and (folder / EVIDENCE).is_dir() and not (folder / MANIFEST).exists() and _quiet(folder / EVIDENCE, OLD_ASIDE_SECONDS):
            yield Finding("half_evidence", str(folder / EVIDENCE), "the judge ended before it wrote the manifest",
                          f"it is removed; `marquee judge --release {row.release_id}` makes it anew",
                          lambda path=folder / EVIDENCE: rmtree(path))


def stuck_builds(settings: Settings, ledger: Ledger) -> Iterator[Finding]:
    for row in ledger.releases():
        folder = settings.releases / row.release_id
        if row.state == State.BUILDING and _quiet(folder, STUCK_SECONDS):
            yield Finding("stuck_build", row.release_id, "it is building, and nothing was written for a day",
                          f"it becomes failed; `marquee release begin --ds {row.day}` takes it up again",
                          lambda row=row: ledger.move(row.release_id, State.FAILED, "doctor", "nothing was written for a day"))


def expired_leases(settings: Settings, ledger: Ledger) -> Iterator[Finding]:
    for replica, expired in ledger.expired_leases(LEASES_KEPT):
        yield Finding("expired_lease", replica, f"this replica was last heard of before {expired:%Y-%m-%d %H:%M} UTC and did not say that it leaves",
                      "its row is deleted; nobody waits for it", lambda: ledger.forget_expired(LEASES_KEPT))


def collected_files(settings: Settings, ledger: Ledger) -> Iterator[Finding]:
    for row in ledger.releases():
        if row.state == State.COLLECTED and collect.heavy_files(settings.releases / row.release_id):
            yield Finding("collected_files", row.release_id, "garbage collection was interrupted", "its large files are deleted",
                          lambda row=row: collect.delete_files(settings, [row.release_id]))


# --- Milvus -------------------------------------------------------------------------------------------------------------

def lost_alias(settings: Settings, ledger: Ledger) -> Iterator[Finding]:
    pointer, held = ledger.pointer(), _collections(settings)
    if held is None or pointer is None or pointer.release_id is None or pointer.phase != "live":
        return
    name = collection_name(pointer.release_id)
    if name in held and ALIAS not in held[name]:
        yield Finding("lost_alias", ALIAS, f"it does not point at the live collection {name}", "it is moved; no request reads it",
                      lambda: move_alias(settings, pointer.release_id))


def lost_collections(settings: Settings, ledger: Ledger, rebuild: Rebuild) -> Iterator[Finding]:
    """Until it is there again, requests search the release's vectors in process: slower, and said to be degraded."""
    held = _collections(settings)
    if held is None:
        yield Finding("milvus", settings.milvus_address(), "it does not answer, so that collections were not looked at", "start it: `marquee up`")
        return
    for release in sorted(_needed(ledger)):
        if not (settings.releases / release / ITEM_VECTORS).is_file() or not (settings.releases / release / SPEC).is_file():
            continue
        try:
            spec = files.read(settings.releases / release / SPEC, ReleaseSpec, "restore it")
            titles = len(np.load(settings.releases / release / ITEM_VECTORS, mmap_mode="r"))
        except (MarqueeError, ValueError):
            continue  # torn_releases names it
        for name in sorted(spec.collections):
            if name not in held:
                yield Finding("lost_collection", name, f"release {release} needs it, and Milvus has none of that name",
                              "it is made again from the release's files", lambda release=release: rebuild(settings, release))
            elif (there := _count(settings, name)) != titles:
                yield Finding("short_collection", name, f"it holds {there} of release {release}'s {titles} titles",
                              "it is dropped and made again from the release's files",
                              lambda release=release, name=name: _remake(settings, release, name, held[name], rebuild))


def orphan_collections(settings: Settings, ledger: Ledger) -> Iterator[Finding]:
    held, rows = _collections(settings) or {}, ledger.releases()
    ours = {collection_name(row.release_id) for row in rows if row.state != State.COLLECTED}
    collected = [row.release_id for row in rows if row.state == State.COLLECTED]
    shared = bool(settings.milvus_url) or not _runs_milvus(settings)  # perhaps another home's, on a port that this one never chose
    for name, aliases in sorted(held.items()):
        if not OUR_COLLECTION.match(name) or list(collect.of_releases([name], ours)) or collect.is_read(ledger, name):
            continue
        known = list(collect.of_releases([name], map(collection_name, collected)))
        certain = not aliases and (known or not shared)
        yield Finding("orphan_collection", name, "its release was collected" if known else "the ledger knows no release of it",
                      "it is dropped" if certain else f"alias {', '.join(aliases)} points at it: move that first" if aliases else
                      "Milvus may be shared with another home: drop it by hand if it is nobody's",
                      (lambda name=name: _drop(settings, name)) if certain else None)


# --- files --------------------------------------------------------------------------------------------------------------

def staging_files(settings: Settings, ledger: Ledger) -> Iterator[Finding]:
    """Files and folders that were written aside and never published."""
    for path in _asides(settings):
        yield Finding("staging", str(path), "it was written aside, and its writer is gone", "it is deleted; a rerun writes it anew",
                      lambda path=path: rmtree(path) if path.is_dir() else path.unlink(missing_ok=True))


def dead_pid_files(settings: Settings, ledger: Ledger) -> Iterator[Finding]:
    for path in sorted((settings.home / "run").glob("*.pid")):
        if not _runs(path):
            yield Finding("dead_pid_file", str(path), "its process is gone", "it is deleted; `marquee up` starts what is missing", path.unlink)


def audit_branches(settings: Settings, ledger: Ledger) -> Iterator[Finding]:
    """Branches of an ingest that was killed before it published; while one runs they are its own."""
    if not (settings.lake / "catalog.db").exists() and not settings.catalog_uri:
        return
    from jobs.lake import read

    catalog = read.catalog(settings)
    there = {".".join(name) for name in catalog.list_tables(RAW)} if catalog.namespace_exists(RAW) else set()
    for name in sorted(f"{RAW}.{table}" for table in TABLES if f"{RAW}.{table}" in there):
        table = catalog.load_table(name)
        if (branch := table.refs().get(AUDIT_BRANCH)) is None:
            continue
        written = table.snapshot_by_id(branch.snapshot_id).timestamp_ms / 1000
        certain = time.time() - written > OLD_ASIDE_SECONDS * 6
        yield Finding("audit_branch", f"{name}@{AUDIT_BRANCH}", "an ingest ended before it published", "it is dropped" if certain else
                      "it is young, and may be a running ingest's; the next `marquee ingest` drops it",
                      (lambda table=table: table.manage_snapshots().remove_branch(AUDIT_BRANCH).commit()) if certain else None)


# --- help ---------------------------------------------------------------------------------------------------------------

def _needed(ledger: Ledger) -> set[str]:
    """Releases that serve or may come to serve next."""
    rows = {row.release_id: row.state for row in ledger.releases()}
    waiting = {release for release, state in rows.items() if state in (State.AWAITING_APPROVAL, State.PROBING, State.LIVE)}
    return waiting | {release for release in ledger.in_use() if rows.get(release) != State.COLLECTED}


def _asides(settings: Settings) -> Iterator[Path]:
    homes = [settings.home, settings.home / "run", settings.home / "secrets", settings.home / "world", settings.home / "questions",
             settings.landing, settings.lake, settings.lake / "tags", settings.releases,
             *(settings.releases.iterdir() if settings.releases.is_dir() else ())]
    for folder in homes:
        if folder.is_dir():
            yield from sorted(path for path in folder.iterdir() if _is_leftover(path) and (folder != settings.landing or ASIDE_LANDED.match(path.name)))


def _is_leftover(path: Path) -> bool:
    if found := ASIDE_PID.match(path.name):
        return _quiet(path, STUCK_SECONDS if psutil.pid_exists(int(found[1] or found[2])) else OLD_ASIDE_SECONDS)
    return bool(ASIDE_NEW.match(path.name)) and _quiet(path, OLD_ASIDE_SECONDS)


def _quiet(path: Path, seconds: float) -> bool:
    """Nothing in it was written for so long."""
    newest = max((inside.stat().st_mtime for inside in (path, *path.rglob("*"))), default=0.0) if path.exists() else 0.0
    return time.time() - newest > seconds


def _runs_milvus(settings: Settings) -> bool:
    """Whether the Milvus that answers is this home's own."""
    return _runs(settings.home / "run" / "milvus.pid")


def _runs(pid_file: Path) -> bool:
    """Whether the process that a pid file names is there, and is the one that wrote it."""
    try:
        found = re.search(r'"pid":\s*(\d+)[^}]*"started":\s*([\d.]+)', pid_file.read_text(errors="replace"))
        return bool(found) and abs(psutil.Process(int(found[1])).create_time() - float(found[2])) < 1
    except (OSError, psutil.Error):
        return False


def _collections(settings: Settings) -> dict[str, list[str]] | None:
    """Collection -> aliases; None where Milvus does not answer."""
    from pymilvus import MilvusClient
    from pymilvus.exceptions import MilvusException

    try:
        with closing(MilvusClient(**settings.milvus_connection(), timeout=10)) as client:
            return {name: list(client.list_aliases(collection_name=name).get("aliases", [])) for name in client.list_collections()}
    except MilvusException:
        return None


def _count(settings: Settings, name: str) -> int:
    from pymilvus import MilvusClient

    with closing(MilvusClient(**settings.milvus_connection(), timeout=10)) as client:
        return milvus.count(client, name)


def _remake(settings: Settings, release: str, name: str, aliases: list[str], rebuild: Rebuild) -> None:
    """No replica searches a collection that lacks titles, and no request reads the alias."""
    from pymilvus import MilvusClient

    with closing(MilvusClient(**settings.milvus_connection(), timeout=10)) as client:
        for alias in aliases:
            client.drop_alias(alias)
        client.drop_collection(name)
    rebuild(settings, release)
    if ALIAS in aliases:
        move_alias(settings, release)


def _drop(settings: Settings, name: str) -> None:
    from pymilvus import MilvusClient

    with closing(MilvusClient(**settings.milvus_connection(), timeout=10)) as client:
        client.drop_collection(name)

"""Housekeeping of the lake, on a real one: what a tag, a night's record or a kept release names reads the same after it."""

import json
import os
import time
from datetime import date
from pathlib import Path

import pyarrow as pa
import pytest

from contracts.errors import MarqueeError
from contracts.marts import CATALOG, tag_name
from contracts.release import PROVENANCE, Provenance, State
from contracts.tags import TableVersion, TagRecord, tag_file, training_file
from jobs.lake import raw, read, tidy
from jobs.lake.session import ensure_namespaces, spark_session
from ledger import open_ledger

FIRST, SECOND = "2026-03-01", "2026-03-02"
PLAYS, REQUESTS, RAW_PLAYS = "marts.fct_play", "training.requests", "raw.plays"
KEPT, COLLECTED = f"{SECOND}-kept", f"{SECOND}-collected"
EVERYTHING = {PLAYS, REQUESTS, RAW_PLAYS}


class Lake:
    """Three tables with many small files, and a snapshot of each kind of name. Spark makes the tables, as the jobs do;
    the many appends are pyiceberg's, which is quicker."""

    def __init__(self, settings):
        self.settings, self.session = settings, spark_session(settings)
        ensure_namespaces(self.session)
        for name in EVERYTHING:
            self.session.sql(f"create table {CATALOG}.{name} (id int, ds string) using iceberg partitioned by (ds)")
        self.tags = {FIRST: self.append(PLAYS, 0, 3), SECOND: self.append(PLAYS, 3, 6)}
        for ds, snapshot in self.tags.items():
            self.table(PLAYS).manage_snapshots().create_tag(snapshot, tag_name(ds)).commit()
        self.table(PLAYS).delete("id < 2")
        self.of_kept = self.append(PLAYS, 6, 8)
        self.of_collected = self.append(PLAYS, 8, 14)
        self.append(PLAYS, 14, 20)
        self.on_record = self.append(REQUESTS, 0, 2)
        self.table(REQUESTS).overwrite(rows(9))
        self.append(RAW_PLAYS, 0, 7)
        self._write_records()

    def append(self, name: str, first: int, end: int) -> int:
        """A file and a snapshot for each id; the last snapshot."""
        for number in range(first, end):
            self.table(name).append(rows(number))
        return raw.main_snapshot(self.table(name))

    def table(self, name: str):
        return read.open_table(self.settings, name)

    def ids(self, name: str, snapshot: int | None = None) -> list[int]:
        """Read by pyiceberg: what Spark has in its caches does not count."""
        return sorted(self.table(name).scan(snapshot_id=snapshot).to_arrow()["id"].to_pylist())

    def said(self) -> dict[str, list[int]]:
        """What must read the same for ever."""
        return {
            "first tag": sorted(read.table(self.settings, PLAYS, tag=tag_name(FIRST))["id"].to_pylist()),
            "second tag": sorted(read.table(self.settings, PLAYS, tag=tag_name(SECOND))["id"].to_pylist()),
            "kept release": self.ids(PLAYS, self.of_kept), "training record": self.ids(REQUESTS, self.on_record),
            **{name: self.ids(name) for name in sorted(EVERYTHING)},
        }

    def files(self, name: str) -> set[Path]:
        return set((Path(self.table(name).location().removeprefix("file:")) / "data").rglob("*.parquet"))

    def snapshots(self, name: str) -> set[int]:
        return {s.snapshot_id for s in self.table(name).snapshots()}

    def _write_records(self) -> None:
        folder = self.settings.lake / "tags"
        folder.mkdir(parents=True, exist_ok=True)
        for ds, snapshot in self.tags.items():
            (folder / tag_file(tag_name(ds))).write_text(record("fct_play", snapshot).model_dump_json())
        (folder / training_file(tag_name(FIRST))).write_text(record("requests", self.on_record).model_dump_json())
        ledger = open_ledger(self.settings)
        for release, snapshot in ((KEPT, self.of_kept), (COLLECTED, self.of_collected)):
            provenance = Provenance(release_id=release, day=SECOND, tag=record("marts.fct_play", snapshot), code="c", recipe={}, seed=1,
                                    training=record("requests", self.on_record), libraries={})
            (self.settings.releases / release).mkdir(parents=True)
            (self.settings.releases / release / PROVENANCE).write_text(provenance.model_dump_json())
            ledger.begin(release, SECOND, "test")
        ledger.move(COLLECTED, State.BUILT, "test")
        ledger.move(COLLECTED, State.BLOCKED, "test")
        assert ledger.collect(COLLECTED, "test", "old")


def rows(number: int) -> pa.Table:
    return pa.table({"id": pa.array([number], pa.int32()), "ds": ["a"]})


def record(table: str, snapshot: int) -> TagRecord:
    day = date.fromisoformat(SECOND)
    return TagRecord(ds=SECOND, first=day, last=day, has_impressions=True,
                     tables={table: TableVersion(snapshot_id=snapshot, rows=1, logical_hash="h")})


@pytest.fixture
def lake(new_home) -> Lake:
    return Lake(new_home())


def test_what_is_named_reads_the_same_and_the_rest_goes_once(lake):
    before, files = lake.said(), {name: lake.files(name) for name in EVERYTHING}
    done = tidy.run(lake.settings, keep_days=0)
    assert lake.said() == before
    assert lake.snapshots(PLAYS) == {*lake.tags.values(), lake.of_kept, raw.main_snapshot(lake.table(PLAYS))}
    assert lake.of_collected not in lake.snapshots(PLAYS)
    assert lake.snapshots(REQUESTS) == {lake.on_record, raw.main_snapshot(lake.table(REQUESTS))}
    assert len(lake.files(RAW_PLAYS)) == 1 < len(files[RAW_PLAYS])
    assert done["files_compacted"] >= 7
    assert done["files_expired"] > 0
    assert (done["tables"], done["passed_over"]) == (3, [])

    heads = {name: raw.main_snapshot(lake.table(name)) for name in EVERYTHING}
    again = tidy.run(lake.settings, keep_days=0)
    assert [again[count] for count in ("files_compacted", "snapshots_expired", "files_expired", "orphans_removed")] == [0] * 4
    assert {name: raw.main_snapshot(lake.table(name)) for name in EVERYTHING} == heads


def test_young_snapshots_stay_for_whoever_reads_them(lake):
    before = {name: lake.snapshots(name) for name in EVERYTHING}
    assert tidy.run(lake.settings)["snapshots_expired"] == 0
    assert all(before[name] <= lake.snapshots(name) for name in EVERYTHING)


def test_files_that_no_snapshot_knows_go_when_they_are_old(lake):
    known = next(iter(lake.files(RAW_PLAYS)))
    old, young = known.with_name("killed-long-ago.parquet"), known.with_name("being-written.parquet")
    for path in (old, young):
        path.write_bytes(known.read_bytes())
    long_ago = time.time() - 5 * 86400
    os.utime(old, (long_ago, long_ago))
    os.utime(known, (long_ago, long_ago))
    before = lake.said()
    assert tidy.run(lake.settings)["orphans_removed"] == 1
    assert (old.exists(), young.exists(), known.exists()) == (False, True, True)
    assert lake.said() == before


def test_cut_off_between_any_two_procedures_the_next_run_ends_alike(lake, monkeypatch):
    before, real, made, allowed = lake.said(), tidy._call, [], [0]

    def cut_off(*arguments):
        if len(made) == allowed[0]:
            raise KeyboardInterrupt
        made.append(arguments[1])
        return real(*arguments)

    monkeypatch.setattr(tidy, "_call", cut_off)
    for allowed[0] in (1, 3, 4):
        made.clear()
        with pytest.raises(KeyboardInterrupt):
            tidy.run(lake.settings, keep_days=0)
        assert lake.said() == before, made
    monkeypatch.setattr(tidy, "_call", real)
    tidy.run(lake.settings, keep_days=0)
    assert lake.said() == before
    assert lake.snapshots(PLAYS) == {*lake.tags.values(), lake.of_kept, raw.main_snapshot(lake.table(PLAYS))}


def test_what_is_being_published_is_passed_over(lake):
    lake.session.sql(f"alter table {CATALOG}.{PLAYS} create branch audit")
    raw.open_journal(lake.settings, 3, {RAW_PLAYS: raw.main_snapshot(lake.table(RAW_PLAYS))})
    before = {name: lake.snapshots(name) for name in EVERYTHING}
    assert tidy.run(lake.settings, keep_days=0)["passed_over"] == [RAW_PLAYS, PLAYS]
    assert {name for name in EVERYTHING if lake.snapshots(name) != before[name]} == {REQUESTS}


@pytest.mark.parametrize("which", ["provenance", "training record", "tag record"])
def test_a_record_that_cannot_be_read_stops_everything(lake, which):
    tags = lake.settings.lake / "tags"
    path = {"provenance": lake.settings.releases / KEPT / PROVENANCE, "training record": tags / training_file(tag_name(FIRST)),
            "tag record": tags / tag_file(tag_name(FIRST))}[which]
    path.write_text(json.dumps({"torn": True}))
    before = {name: lake.snapshots(name) for name in EVERYTHING}
    with pytest.raises(MarqueeError, match=f"{path.name} cannot be read"):
        tidy.run(lake.settings, keep_days=0)
    assert {name: lake.snapshots(name) for name in EVERYTHING} == before

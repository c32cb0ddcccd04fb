"""The audit sees what validation should have set aside, on all rows, and tells a failed check from a broken one."""

from datetime import date, timedelta

import pyarrow as pa
import pytest

from contracts.errors import MarqueeError
from contracts.landing import TABLES, Interval
from jobs.quality.audit import audit, audited_columns
from tests.jobs.lake.landings import ARROW, at, events

DAY = Interval(date(2026, 3, 1), date(2026, 3, 1))


def rows_of(table: str, rows: list[dict]) -> pa.Table:
    fields = [(c.name, ARROW[c.type]) for c in TABLES[table].columns if c.name in audited_columns(table)]
    return pa.Table.from_pylist([{name: row.get(name) for name, _ in fields} for row in rows], pa.schema(fields))


def counts_of(landed=100, published=90, quarantined=6, duplicates=4):
    return {"plays": {"landed": landed, "published": published, "quarantined": quarantined, "duplicates": duplicates}}


@pytest.fixture
def plays() -> list[dict]:
    return [row for day in range(20) for row in events("2026-03-01", "2026-03-01", 12, seed=day)["plays"]
            if not row.update(event_id=f"{day}-{row['event_id']}")]


def test_good_rows_pass(plays):
    assert audit({"plays": rows_of("plays", plays)}, counts_of(), DAY) > 10


@pytest.mark.parametrize(("spoil", "complaint"), [
    ({"title_id": None}, "plays.title_id: expect_column_values_to_not_be_null"),
    ({"watched_seconds": -1.0}, "plays.watched_seconds: expect_column_values_to_be_between"),
    ({"event_time": at("2026-03-02", 1)}, "plays.event_time: expect_column_max_to_be_between"),
    ({"received_at": at("2026-03-02")}, "plays.received_at: expect_column_max_to_be_between"),
])
def test_one_bad_row_among_many_is_seen(plays, spoil, complaint):
    plays[17] |= spoil
    with pytest.raises(MarqueeError, match=complaint):
        audit({"plays": rows_of("plays", plays)}, counts_of(), DAY)


def test_a_repeated_id_is_seen(plays):
    with pytest.raises(MarqueeError, match=r"plays\.event_id: expect_column_values_to_be_unique"):
        audit({"plays": rows_of("plays", [*plays, plays[0]])}, counts_of(), DAY)


def test_a_night_of_late_records_is_no_night(plays):
    for row in plays:
        row["event_time"] -= timedelta(days=3)
    with pytest.raises(MarqueeError, match="is_late"):
        audit({"plays": rows_of("plays", plays)}, counts_of(), DAY)


@pytest.mark.parametrize(("counts", "complaint"), [
    (counts_of(landed=101), "unaccounted"),
    (counts_of(landed=100, published=20, quarantined=80, duplicates=0), "quarantined_share"),
])
def test_sums_are_judged_too(plays, counts, complaint):
    with pytest.raises(MarqueeError, match=complaint):
        audit({"plays": rows_of("plays", plays)}, counts, DAY)


def test_a_check_that_cannot_run_is_not_a_check_that_failed(plays, monkeypatch):
    monkeypatch.setattr("jobs.quality.audit._frame", lambda rows: rows.drop(["title_id"]).to_pandas())
    with pytest.raises(MarqueeError, match="could not be evaluated"):
        audit({"plays": rows_of("plays", plays)}, counts_of(), DAY)

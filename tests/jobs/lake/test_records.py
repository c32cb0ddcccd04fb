"""What ingest says of single records, and that `land check` refuses the same ones."""

import json

import pytest

from contracts.landing import Interval
from jobs.lake import landed
from jobs.lake.session import spark_session
from jobs.lake.validate import fill_received_at, validate
from jobs.sources.check import check
from tests.jobs.lake.landings import at, mark, write_parquet

DAY = "2026-03-02"
LICENCE = {"event_time": "2026-03-02T10:00:00Z", "window_id": "w1", "title_id": "t1", "market": "SE", "opens_at": "2026-03-01"}

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
GOOD = [
    {"revoked": True}, {"revoked": "false"}, {"revoked": None},
    {"title_id": "\U0001f3ac \\ud800 \\"}, {"title_id": "caf\xe9"},
    {"closes_at": "9999-12-31T00:00:00Z"}, {"closes_at": "2026-04-01T02:00:00.123456+02:00"}, {"opens_at": "2026-03-01 00:00:00"},
]
BAD = [
    ({"opens_at": "10:00:00"}, "wrong type: opens_at"),
    ({"closes_at": "202612"}, "wrong type: closes_at"),
    ({"event_time": "2026"}, "wrong type: event_time"),
    ('{"title_id": "caf\xe9"}'.encode("latin-1"), "not UTF-8"),
    ({"title_id": "caf\ud800"}, "not UTF-8"),
    (b"[" * 5000, "not JSON"),
    ({"revoked": "yes"}, "wrong type: revoked"),
    ({"revoked": 1}, "wrong type: revoked"),
    ({"market": "S-E"}, "not 1 to 32 letters, digits and _: market"),
    ({"opens_at": "0001-01-01"}, "outside the years 1870 to 9999: opens_at"),
]


@pytest.fixture(scope="module")
def session(new_home):
    return spark_session(new_home())


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / DAY
    folder.mkdir()
    mark(folder, Interval.parse(DAY))
    return folder


def reasons(session, folder) -> list[str | None]:
    """Of each record of the licences, in their order."""
    interval = Interval.parse(folder.name)
    frame = landed.read_table(session, folder, "licences")
    rows = validate(fill_received_at(frame, interval, 0), "licences", interval)
    return [row["_reason"] for row in rows.select("_reason").collect()]


def lines(*records: dict | bytes) -> bytes:
    return b"\n".join(one if isinstance(one, bytes) else json.dumps({"event_id": f"l{n}"} | LICENCE | one).encode() for n, one in enumerate(records))


def test_records_are_refused_with_their_reason_by_ingest_and_by_check(session, folder):
    path = folder / "licences.jsonl"
    path.write_bytes(BYTE_ORDER_MARK + lines(*GOOD, *(record for record, _ in BAD)))
    assert reasons(session, folder) == [None] * len(GOOD) + [reason for _, reason in BAD]
    for record, _ in BAD:
        path.write_bytes(lines(record))
        assert any("licences: 1 record of 1" in problem for problem in check(folder).problems), record
    path.write_bytes(lines(*GOOD))
    assert not [problem for problem in check(folder).problems if "licences:" in problem]


def test_a_timestamp_of_a_parquet_file_is_within_reason_too(session, folder):
    licence = LICENCE | {"event_id": "l1", "event_time": at(DAY), "opens_at": at(DAY), "closes_at": 577_239_000_000_000_000}
    write_parquet(folder / "licences.parquet", "licences", [licence])
    assert reasons(session, folder) == ["outside the years 1870 to 9999: closes_at"]
    assert any("closes_at is outside the years 1870 to 9999" in problem for problem in check(folder).problems)

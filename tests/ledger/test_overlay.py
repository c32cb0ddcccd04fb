"""The overlay's records: numbered, in order, newest version last, none twice."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from contracts.eligibility import Record
from contracts.overlay import OverlayRecord
from ledger import Ledger

VECTOR = np.array([0.6, 0.8], np.float32)


@pytest.fixture
def log(ledger: Ledger) -> Ledger:
    """A ledger with two releases and five versions of titles `a` to `e`; two more of `a`."""
    for release in ("r1", "r2"):
        ledger.begin(release, "2026-03-31", "test")
    ledger.append_eligibility([Record(0, "title", name, maturity=7, key=f"{name}{i}", content={"name": f"{name}{i}"})
                               for i, name in enumerate("abcdeaa")])
    return ledger


def record(title: str, title_seq: int, vector: np.ndarray = VECTOR) -> OverlayRecord:
    return OverlayRecord(0, title, title_seq, {}, vector)


def test_records_come_back_in_order_with_their_content(log: Ledger):
    assert log.append_overlay("r1", [record("b", 2), record("a", 1, VECTOR[::-1])], through=5) == 2
    assert log.append_overlay("r2", [record("a", 1)], through=7) == 1
    first, second = log.overlay_since("r1", 0)
    assert (first.title_id, first.title_seq, first.content) == ("b", 2, {"name": "b1"})
    np.testing.assert_array_equal(second.vector_D, VECTOR[::-1])
    assert first.seq < second.seq == log.overlay_head("r1") < log.overlay_head("r2")
    assert log.overlay_since("r1", first.seq)[0].title_id == "a"
    assert (log.overlay_through("r1"), log.overlay_through("r2"), log.overlay_through("r3")) == (5, 7, 0)
    assert log.overlay_since("r3", 0) == []


def test_an_older_version_is_left_out_and_the_newest_holds(log: Ledger):
    log.append_overlay("r1", [record("a", 6)], through=6)
    assert log.append_overlay("r1", [record("a", 1), record("a", 6), record("a", 7)], through=7) == 1
    assert [r.title_seq for r in log.overlay_since("r1", 0)] == [6, 7]
    assert log.overlay_titles("r1") == {"a": {"name": "a6"}}
    assert log.append_overlay("r2", [record("a", 6)], through=6) == 1, "another release has its own"


def test_writers_at_once_add_each_version_once(log: Ledger):
    with ThreadPoolExecutor(4) as pool:
        added = list(pool.map(lambda _: log.append_overlay("r1", [record(t, i) for i, t in enumerate("abcde", 1)], 5), range(8)))
    assert sum(added) == 5
    assert [r.title_id for r in log.overlay_since("r1", 0)] == list("abcde")

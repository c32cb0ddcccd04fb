"""The eligibility log: numbered, in order, each landed record once."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy.exc import IntegrityError

from contracts.eligibility import Eligibility, Record
from ledger import Ledger


def title(name: str, maturity: int | None, key: str = "", known_at: int = 0) -> Record:
    return Record(0, "title", name, maturity=maturity, key=key, known_at=known_at)


def test_records_are_numbered_in_order(ledger: Ledger):
    assert ledger.eligibility_head() == 0
    assert ledger.append_eligibility([title("b", 7, "1"), title("a", 13, "2")]) == 2
    assert [(r.seq, r.title_id, r.maturity) for r in ledger.eligibility_since(0)] == [(1, "b", 7), (2, "a", 13)]
    assert [r.title_id for r in ledger.eligibility_since(1)] == ["a"]
    assert [r.title_id for r in ledger.eligibility_since(0, limit=1)] == ["b"]
    assert ledger.eligibility_head() == 2


def test_appending_again_adds_nothing(ledger: Ledger):
    records = [title("a", 7, "e1"), title("a", 13, "e2"), title("a", 7, "e3")]
    assert ledger.append_eligibility(records) == 3, "a version may return to what it was"
    assert ledger.append_eligibility(records) == 0
    assert ledger.append_eligibility([*records, title("b", 0, "e4")]) == 1
    assert ledger.eligibility_since(0)[-1].title_id == "b"


def test_windows_keep_their_fields(ledger: Ledger):
    window = Record(0, "licence", "a", window_id="w", market="nl", opens_at=10, closes_at=20, revoked=True, key="k")
    ledger.append_eligibility([window])
    found = ledger.eligibility_since(0)[0]
    assert (found.kind, found.window_id, found.market, found.opens_at, found.closes_at, found.revoked) == (
        "licence", "w", "nl", 10, 20, True)


def test_the_cursor_moves_with_the_records_or_not_at_all(ledger: Ledger):
    ledger.append_eligibility([title("a", 7, "e1")], cursor=("landing/x", {"signature": "s"}))
    assert ledger.cursors() == {"landing/x": {"signature": "s"}}
    broken = Record(0, "title", None, key="e2")
    with pytest.raises(IntegrityError, match="title_id"):
        ledger.append_eligibility([title("b", 7, "e3"), broken], cursor=("landing/x", {"signature": "t"}))
    assert ledger.cursors() == {"landing/x": {"signature": "s"}}
    assert ledger.eligibility_head() == 1


def test_writers_at_once_lose_nothing_and_readers_miss_nothing(ledger: Ledger):
    """A reader that follows the numbers sees every record, though four write beside it."""
    seen: list[str] = []

    def write(worker: int) -> None:
        for i in range(20):
            ledger.append_eligibility([title(f"{worker}-{i}-{j}", 7, f"{worker}-{i}-{j}") for j in range(3)])

    with ThreadPoolExecutor(4) as pool:
        writers = [pool.submit(write, worker) for worker in range(4)]
        head = 0
        while not all(w.done() for w in writers) or head < ledger.eligibility_head():
            for record in ledger.eligibility_since(head):
                assert record.seq > head
                head = record.seq
                seen.append(record.title_id)
        assert all(w.result() is None for w in writers)
    assert len(seen) == len(set(seen)) == 4 * 20 * 3


def test_a_late_version_is_left_out_whoever_appends_it(ledger: Ledger):
    ledger.append_eligibility([title("a", 7, "1", known_at=100), title("b", 1, "3", known_at=9)])
    assert ledger.append_eligibility([title("a", 13, "2", known_at=50), title("b", 2, "4", known_at=50)]) == 1
    assert [(r.title_id, r.maturity) for r in ledger.eligibility_since(0)] == [("a", 7), ("b", 1), ("b", 2)]


def test_a_window_is_one_within_its_title_and_market(ledger: Ledger):
    """A revocation that arrives late is not older than a version of another market's window with the same id."""
    def window(market: str, known_at: int, revoked: bool = False) -> Record:
        return Record(0, "licence", "a", window_id="w", market=market, revoked=revoked, key=f"{market}{known_at}", known_at=known_at)

    ledger.append_eligibility([title("a", 7), window("SE", 1), window("DE", 100)])
    assert ledger.append_eligibility([window("SE", 50, revoked=True), window("DE", 50, revoked=True)]) == 1
    known = Eligibility()
    known.apply(ledger.eligibility_since(0))
    assert [known.why_not("a", market, 18, 200) for market in ("SE", "DE")] == ["no_licence", None]


def test_the_newest_content_of_a_title_is_its_newest_versions(ledger: Ledger):
    def version(name: str, key: str, known_at: int, content: dict | None) -> Record:
        return Record(0, "title", name, maturity=7, key=key, known_at=known_at, content=content)

    ledger.append_eligibility([version("a", "1", 1, {"name": "A"}), version("b", "2", 1, {"name": "B"}), version("c", "3", 1, None)])
    ledger.append_eligibility([version("a", "4", 2, {"name": "Á", "genres": ["drama"]}), version("b", "5", 2, None)])
    assert ledger.title_contents(["a", "b", "c", "d"]) == {"a": (4, {"name": "Á", "genres": ["drama"]})}
    assert ledger.titles_since(3) == ["a", "b"]
    assert [r.seq for r in ledger.eligibility_of(["b", "a"])] == [1, 2, 4, 5]

"""Titles that arrive after the build: found, shown in turn, named; the same answers at equal numbers."""

from collections import Counter
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from contracts.content import content_json
from contracts.eligibility import Record
from contracts.overlay import OverlayRecord
from serving import lists, overlay, retrieve
from serving.arrange import LAUNCH_PLACES
from serving.eligibility import extended
from serving.member import Ask
from serving.metrics import Metrics
from serving.pipeline import Clients, shelf
from serving.score import RetrievalOrder
from tests.serving.doubles import Broken, Given, member
from tests.serving.tiny_world import DIMENSION, NOW, oracle

WHO = member(titles=("t003", "t010", "t011"))


def record(seq: int, title_id: str, vector: np.ndarray, **content) -> OverlayRecord:
    return OverlayRecord(seq, title_id, seq, {"name": f"New {title_id}", "genres": ["crime"], **content}, vector.astype(np.float32))


def unit(seed: int) -> np.ndarray:
    vector = np.random.default_rng(seed).normal(size=DIMENSION)
    return vector / np.linalg.norm(vector)


def arrivals(count: int) -> list[OverlayRecord]:
    return [record(i, f"n{i:04}", unit(i)) for i in range(1, count + 1)]


def licensed(world, records, market: str = "de", maturity: int = 0):
    """The log with these titles licensed in one market."""
    log = world.catalogue.log
    more = [Record(0, "title", r.title_id, maturity=maturity) for r in records]
    more += [Record(0, "licence", r.title_id, window_id=r.title_id, market=market) for r in records]
    return extended(world.catalogue.eligibility(), [replace(r, seq=len(log) + i) for i, r in enumerate(more, 1)])


def shelf_at(release, eligibility, vectors, who=WHO, moment=NOW, size=20, profile="p1", **ask):
    return shelf(Ask(profile, moment, size, **ask), release, eligibility, Clients(Given(who), vectors, Metrics()))


def titles(made) -> list[str]:
    return [pick.title_id for pick in made.picks]


def query(release):
    return release.query_D(WHO.history, WHO.profile, Ask("p1", NOW).context)


def test_rows_do_not_depend_on_how_many_records_were_read_at_once(world):
    records = [*arrivals(4), record(5, "t001", unit(5)), record(6, "n0002", unit(6), name="Renamed"), record(7, "t007", unit(7))]
    at_once = overlay.extended(world.one, records)
    bit_by_bit = world.one
    for one in records:
        bit_by_bit = overlay.extended(bit_by_bit, [one])
    assert at_once.titles.ids == bit_by_bit.titles.ids
    np.testing.assert_array_equal(at_once.vectors_ND, bit_by_bit.vectors_ND)
    np.testing.assert_array_equal(at_once.overlay.rows_O, bit_by_bit.overlay.rows_O)
    np.testing.assert_array_equal(at_once.overlay.hash_A, bit_by_bit.overlay.hash_A)
    assert (at_once.overlay.seq, at_once.overlay.ids) == (7, {"n0001", "n0002", "n0003", "n0004", "t001", "t007"})
    assert at_once.titles.name("n0002") == bit_by_bit.titles.name("n0002") == "Renamed"
    assert world.one.overlay.seq == 0
    assert "n0001" not in world.one.titles.row, "a request in flight keeps what it began with"


def test_a_near_arrival_is_found_and_scored_like_any_other(world, vectors):
    near = record(1, "n1", query(world.one), runtime_minutes=100.0)
    release, eligibility = overlay.extended(world.one, [near]), licensed(world, [near])
    made = shelf_at(release, eligibility, vectors)
    assert made.pool.title_ids[0] == "n1"
    assert made.pool.retrieval_K[0] == pytest.approx(1.0, abs=1e-5)
    pick = next(p for p in made.picks if p.title_id == "n1")
    assert np.isfinite(pick.score)
    counts = release.candidates(release.titles.rows(["n1"]), np.ones(1), WHO.history, 0).columns
    assert np.isnan(counts["plays_30d"][0]), "nobody has counted it: as the ranker learnt of such titles"
    assert counts["runtime_minutes"][0] == 100.0
    exact = shelf_at(release, eligibility, Broken())
    assert titles(exact) == titles(made)
    assert exact.degraded == ["retrieve"]
    similar = lists.similar(release, eligibility, WHO.viewer(NOW), "n1", 5, Metrics())
    assert len(similar) == 5
    assert "n1" in [title for title, _ in lists.similar(release, eligibility, WHO.viewer(NOW), similar[0][0], 150, Metrics())]


def test_a_changed_title_is_searched_by_its_new_vector_and_keeps_its_counts(world, vectors):
    query_D, eligibility = query(world.one), world.catalogue.eligibility()
    nearest = next(t for t in shelf_at(world.one, eligibility, vectors).pool.title_ids)
    row = world.one.titles.row[nearest]
    content = content_json(world.catalogue.content(row))
    away = overlay.extended(world.one, [OverlayRecord(1, nearest, 1, content, -query_D)])
    made = shelf_at(away, eligibility, vectors)
    assert nearest not in made.pool.title_ids[:5], "the collection's old vector does not bring it back"
    assert titles(made) == titles(shelf_at(away, eligibility, Broken()))
    for name, values in away.titles.columns.items():
        np.testing.assert_array_equal(values[row], world.one.titles.columns[name][row])
    assert (away.titles.genres[row], away.titles.launched_N[row]) == (world.one.titles.genres[row], world.one.titles.launched_N[row])


def test_a_title_licensed_anew_is_found_though_the_collection_thinks_it_closed(world, vectors):
    """Its vector in the overlay is the release's own; the log decides."""
    log, at = world.catalogue.log, int(NOW.timestamp())
    closed = next(t for t, m in zip(world.catalogue.ids, world.catalogue.maturity) if m is not None
                  and world.catalogue.eligibility().why_not(t, "de", 18, at) in ("outside_window", "no_licence"))
    row = world.one.titles.row[closed]
    again = extended(world.catalogue.eligibility(), [Record(len(log) + 1, "licence", closed, window_id="again", market="de", opens_at=at - 60)])
    search = lambda release: retrieve.search(release, again, vectors, world.one.vectors_ND[row], WHO.viewer(NOW), frozenset())  # noqa: E731
    assert closed not in search(world.one)
    moved = OverlayRecord(1, closed, 1, content_json(world.catalogue.content(row)), np.array(world.one.vectors_ND[row]))
    assert search(overlay.extended(world.one, [moved]))[0] == closed


@pytest.mark.parametrize("count", [1, 2, 5, 40])
def test_arrivals_take_turns_on_one_or_two_places(world, vectors, count):
    """Far from everybody by their vectors: only the places bring them."""
    records = [replace(r, vector_D=-query(world.one)) for r in arrivals(count)]
    release, eligibility = overlay.extended(replace(world.one, ranker=RetrievalOrder()), records), licensed(world, records)
    seen = Counter()
    for minute in range(5):
        made = shelf_at(release, eligibility, vectors, moment=NOW + timedelta(minutes=minute))
        assert len(made.picks) == 20
        launched = [(i, pick) for i, pick in enumerate(made.picks) if pick.title_id.startswith("n")]
        assert [i for i, _ in launched] == list(LAUNCH_PLACES[:min(count, 2)])
        assert all(pick.source == "launch" and pick.score is not None for _, pick in launched)
        again = shelf_at(release, eligibility, vectors, moment=NOW + timedelta(minutes=minute))
        assert titles(again) == titles(made)
        seen.update(pick.title_id for _, pick in launched)
    newest = {r.title_id for r in records[-5:]}
    assert newest <= set(seen), "five minutes show each of the newest five"
    if count > 10:
        everybody = {p for i in range(100) for p in retrieve.launches(release, eligibility, WHO.viewer(NOW), frozenset(), f"p{i}")}
        assert len(everybody) > 30, "and other members see the others"


def test_arrivals_are_shown_only_to_whom_they_may_be(world, vectors):
    records = arrivals(3)
    release = overlay.extended(world.one, records)
    grown_up = licensed(world, records, maturity=16)
    assert not set(titles(shelf_at(release, grown_up, vectors, member(limit=7)))) & {r.title_id for r in records}
    elsewhere = licensed(world, records, market="fr")
    assert not set(titles(shelf_at(release, elsewhere, vectors))) & {r.title_id for r in records}
    unlicensed = shelf_at(release, world.catalogue.eligibility(), vectors)
    assert titles(unlicensed) == titles(shelf_at(world.one, world.catalogue.eligibility(), vectors))
    for_all = licensed(world, records)
    seen_them = replace(WHO, watched=WHO.watched | {r.title_id for r in records})
    assert not set(titles(shelf_at(release, for_all, vectors, seen_them))) & {r.title_id for r in records}
    again = shelf_at(release, for_all, vectors, surface="watch_again")
    assert "launch" not in {pick.source for pick in again.picks}
    far = replace(release, ranker=RetrievalOrder(), vectors_ND=np.concatenate([world.one.vectors_ND, [-query(world.one)] * 3]))
    assert "launch" not in {pick.source for pick in shelf_at(far, for_all, vectors, size=LAUNCH_PLACES[0]).picks}


def test_a_market_newer_than_the_release_is_searched_in_process(world, vectors):
    records = arrivals(2)
    eligibility = licensed(world, records, market="se")
    release = overlay.extended(world.one, records)
    made = shelf_at(release, eligibility, vectors, member(market="se"))
    assert set(titles(made)) == {"n0001", "n0002"}
    assert made.degraded == []
    assert not any(oracle(world.catalogue.log, t, "se", 18, NOW) for t in world.catalogue.ids)


def test_a_vector_of_another_width_is_refused(world):
    with pytest.raises(Exception, match=r"overlay 1 of .*shape \(3,\)"):
        overlay.extended(world.one, [record(1, "n1", np.ones(3))])

"""The shelf keeps its promises whatever the catalogue, and whatever fails."""

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contracts.eligibility import Eligibility, Record
from contracts.features import ranking_features
from contracts.neighbours import cowatch_scores, transition_scores
from contracts.settings import Settings
from serving import retrieve
from serving.loader import load
from serving.member import Ask, Member
from serving.metrics import Metrics
from serving.pipeline import Clients, shelf
from tests.serving.doubles import Broken, Given, counted, member
from tests.serving.tiny_world import MARKETS, NOW, Catalogue, build_release, oracle


def shelf_of(release, catalogue, who: Member, vectors, ask: Ask | None = None):
    clients = Clients(Given(who), vectors, Metrics())
    return shelf(ask or Ask(who.profile.profile_id, NOW, 20), release, catalogue.eligibility(), clients)


def assert_allowed(made, log, who: Member, moment, shows_watched=False):
    profile = who.profile
    for pick in made.picks:
        assert oracle(log, pick.title_id, profile.market, profile.maturity_limit, moment), pick
        assert shows_watched or "arrange" in made.degraded or pick.title_id not in who.watched
    ids = [pick.title_id for pick in made.picks]
    assert len(ids) == len(set(ids))


VIEWERS = st.fixed_dictionaries({
    "market": st.sampled_from([*MARKETS, "xx"]), "limit": st.sampled_from([0, 7, 12, 18]),
    "day": st.integers(0, 60), "watched": st.sets(st.integers(0, 39), max_size=40), "known": st.booleans(),
})


@given(seed=st.integers(0, 10_000), viewer=VIEWERS, kind=st.sampled_from(["lambdamart", "blend", "retrieval"]))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_catalogue_gives_only_what_is_allowed_and_no_empty_shelf(tmp_path_factory, seed, viewer, kind):
    home = Settings(_env_file=None, home=tmp_path_factory.mktemp("random"))
    catalogue = Catalogue(40, seed)
    release = load(build_release(home, catalogue, "r", seed, kind, vectors=False))
    moment = NOW + timedelta(days=viewer["day"])
    titles = tuple(catalogue.ids[i] for i in sorted(viewer["watched"]))
    who = replace(member(market=viewer["market"], limit=viewer["limit"], titles=titles), known=viewer["known"])

    made = shelf_of(release, catalogue, who, Broken(), Ask("p1", moment, 20))

    assert_allowed(made, catalogue.log, who, moment)
    eligible = [t for t in catalogue.ids if oracle(catalogue.log, t, viewer["market"], viewer["limit"], moment)]
    unwatched = set(eligible) - who.watched
    assert len(made.picks) == min(20, len(unwatched) or len(eligible))
    assert made.no_eligible_titles == (not eligible)


@given(viewer=VIEWERS)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_filtered_search_and_the_exact_one_agree(world, vectors, viewer):
    """At the moment for which the collection was indexed; later the collection may lack a second window."""
    who = member(market="de", limit=viewer["limit"], titles=tuple(world.catalogue.ids[i] for i in sorted(viewer["watched"])))
    searched, exact = (shelf_of(world.one, world.catalogue, who, source) for source in (vectors, Broken()))
    assert searched.degraded == []
    assert exact.degraded == ["retrieve"]
    assert searched.pool.title_ids == exact.pool.title_ids
    assert [p.title_id for p in searched.picks] == [p.title_id for p in exact.picks]
    assert_allowed(searched, world.catalogue.log, who, NOW)


def test_scores_are_the_ranking_function_on_the_releases_vectors(world, vectors):
    who = member(titles=("t003", "t010", "t011"), preferred_genres=("drama",), language="en")
    made = shelf_of(world.one, world.catalogue, who, vectors)
    release, pool = world.one, made.pool
    rows = release.titles.rows(pool.title_ids)
    query = release.query_D(who.history, who.profile, Ask("p1", NOW).context)
    np.testing.assert_allclose(pool.retrieval_K, np.asarray(release.vectors_ND)[rows] @ query, atol=1e-6)
    candidates = release.candidates(rows, pool.retrieval_K, who.history, int(NOW.timestamp()))
    np.testing.assert_array_equal(candidates.transition_score,
                                  transition_scores(who.history.title_ids, pool.title_ids, release.transitions))
    np.testing.assert_array_equal(candidates.cowatch_score, cowatch_scores(who.history.title_ids, pool.title_ids, release.cowatch))
    assert candidates.cowatch_score.any()
    features = ranking_features(release.asker(who.profile, Ask("p1", NOW).context, who.history, {}), candidates)
    np.testing.assert_array_equal(pool.ranker_K, release.ranker._model.predict(features, num_threads=1))
    assert {p.score for p in made.picks} <= set(pool.ranker_K)


def test_the_pool_is_no_larger_than_asked_for_and_has_neighbours(world, vectors):
    who = member(titles=("t003", "t010", "t011"))
    found = retrieve.search(world.one, world.catalogue.eligibility(), vectors, np.ones(16, np.float32) / 4, who.viewer(NOW), who.watched)
    assert 0 < len(found) <= world.one.spec.pool_size
    assert not who.watched & set(found)
    sources = retrieve.combine(world.one, found[:5], who).source.values()
    assert retrieve.TRANSITION in sources


def test_a_broken_ranker_leaves_the_retrieval_order(world, vectors):
    made = shelf_of(replace(world.one, ranker=Broken()), world.catalogue, member(titles=("t003",)), vectors)
    assert made.degraded == ["score"]
    assert made.picks
    np.testing.assert_array_equal(made.pool.ranker_K, made.pool.retrieval_K)
    assert list(made.pool.retrieval_K) == sorted(made.pool.retrieval_K, reverse=True)


def test_a_broken_tower_leaves_the_popular_order(world, vectors):
    who = member(titles=("t003",))
    made = shelf_of(replace(world.one, tower=Broken()), world.catalogue, who, vectors)
    assert made.degraded == ["retrieve"]
    popular = [t for t in world.one.fallback["de", "general"] if oracle(world.catalogue.log, t, "de", 18, NOW)]
    assert [p.title_id for p in made.picks] == [t for t in popular if t not in who.watched][:20]
    assert {p.source for p in made.picks} == {"fallback"}


def test_everything_broken_still_answers_what_is_allowed(world):
    broken = replace(world.one, tower=Broken(), ranker=Broken())
    clients = Clients(Broken(), Broken(), Metrics())
    ask = Ask("p1", NOW, 20, market="de", token_limit=12, vouched=True)
    made = shelf(ask, broken, world.catalogue.eligibility(), clients)
    assert made.degraded == ["hydrate", "retrieve"]
    assert made.picks
    assert all(oracle(world.catalogue.log, p.title_id, "de", 12, NOW) for p in made.picks)


def test_without_the_member_a_household_token_gets_the_strictest_limit(world, vectors):
    """The declared limit of a child may be below its household's; nobody knows while the feature store is away."""
    ask = Ask("p1", NOW, 40, market="de", token_limit=18)
    made = shelf(ask, world.one, world.catalogue.eligibility(), Clients(Broken(), vectors, Metrics()))
    assert made.member.profile.maturity_limit == 0
    assert made.picks
    assert all(oracle(world.catalogue.log, p.title_id, "de", 0, NOW) for p in made.picks)


def test_a_surface_may_show_watched_titles(world, vectors):
    everything = tuple(world.catalogue.ids)
    who = member(titles=everything)
    again = shelf_of(world.one, world.catalogue, who, vectors, Ask("p1", NOW, 20, surface="watch_again"))
    assert len(again.picks) == 20
    assert again.degraded == []
    home = shelf_of(world.one, world.catalogue, who, vectors)
    assert len(home.picks) == 20  # rather than nothing
    assert home.degraded == ["arrange"]


def test_a_title_newer_than_the_release_is_better_than_an_empty_shelf(world):
    new = Eligibility()
    new.apply([Record(1, "title", "t999", maturity=0), Record(2, "licence", "t999", window_id="w", market="de")])
    made = shelf(Ask("p1", NOW), world.one, new, Clients(Given(member(limit=0)), Broken(), Metrics()))
    assert [p.title_id for p in made.picks] == ["t999"]
    assert not made.no_eligible_titles


def test_removals_are_counted_by_source_and_reason(world, vectors):
    metrics, who = Metrics(), member(limit=0, titles=("t003",))

    def figures() -> list[float]:
        return [counted(metrics, "marquee_guard_removed_total", source="retrieval", reason="unknown_title"),
                counted(metrics, "marquee_no_eligible_titles_total")]

    before = figures()
    made = shelf(Ask("p1", NOW), world.one, Eligibility(), Clients(Given(who), vectors, metrics))
    assert made.no_eligible_titles
    removed, empty = (now - then for now, then in zip(figures(), before))
    assert removed > 0  # found by the search, unknown to the log
    assert empty == 1


@pytest.mark.parametrize("known", [True, False])
def test_a_cold_profile_is_offered_what_is_popular(world, vectors, known):
    made = shelf_of(world.one, world.catalogue, replace(member(), known=known), vectors)
    popular = set(world.one.fallback["de", "general"])
    assert popular & set(made.pool.title_ids)
    if not known:
        assert len([p for p in made.picks if p.title_id in popular]) >= 10

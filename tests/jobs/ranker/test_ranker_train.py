"""The ranker on a real little lake: what it learns from, what it must not see, what it ships."""

import json
from dataclasses import replace
from datetime import timedelta

import lightgbm
import numpy as np
import pyarrow as pa
import pyarrow.compute
import pytest

from contracts.errors import MarqueeError, UsageError
from contracts.features import RANKING_FEATURES
from contracts.marts import TRAINING_COLUMNS, tag_name
from contracts.release import RankerSpec, ReleaseSpec
from contracts.settings import Settings
from jobs.attention import Attention
from jobs.bootstrap import effective_size
from jobs.lake import read
from jobs.ranker import choose as choosing
from jobs.ranker import rows
from jobs.ranker import train as step
from jobs.ranker.choose import (
    KINDS,
    NEIGHBOURS,
    VARIANTS,
    Validation,
    bagged_weights,
    choose,
    ndcg,
    simplest_of_the_best,
    train_lambdamart,
)
from jobs.ranker.config import RankerConfig
from jobs.ranker.places import counted
from jobs.ranker.pool import requests_from
from jobs.ranker.rows import (
    NOTHING_SHOWN,
    TrainingRows,
    ValidationRows,
    mismatched_title_features,
    part_of,
    slates_from,
    training_rows,
    validation_rows,
    with_something_to_learn,
)

from .ranker_world import ATTENTION, RELEASE, SPLIT, TITLES, World, schema

SEEN = Attention("exploration", 1.0 / np.arange(1, 11))


def pools_of(settings, config, count: int = 20):
    """The first pools of a home, and the slates of their requests."""
    provenance = step._provenance(settings.releases / RELEASE)
    requests = requests_from(read.training(settings, "requests", provenance.day, role="ranker"))[:count]
    marts = step._Marts(settings, tag_name(provenance.day))
    pools = step.load_pools(settings, settings.releases / RELEASE, provenance, requests, marts, config)
    slates = slates_from(read.training(settings, "impressions", provenance.day)) if provenance.tag.has_impressions else {}
    return list(pools.of(requests)), slates


def trained_attention(settings, config) -> dict:
    step.train(settings, RELEASE, config)
    return json.loads((settings.releases / RELEASE / "spec.json").read_text())["ranker"]["attention"]


@pytest.fixture(scope="module")
def trained(slates_home, config):
    folder = slates_home.releases / RELEASE
    result = step.train(slates_home, RELEASE, config)
    return result, {path.name: path.read_bytes() for path in folder.iterdir() if path.name in ("ranker.txt", "spec.json")}


def test_validation_picks_and_the_spec_says_why(slates_home, trained):
    result, files = trained
    spec = ReleaseSpec.model_validate_json(files["spec.json"])
    figures = spec.ranker.validation
    assert spec.ranker.kind == spec.ranker.picked.split()[0] == result["kind"]
    assert spec.ranker.reason.startswith(f"{spec.ranker.picked}: the ")
    assert {name.split()[0] for name in figures} == {"retrieval", "blend", "lambdamart"}
    assert {name.split()[1] for name in figures if name.startswith("lambdamart")} == set(VARIANTS)
    assert max(figures.values()) > figures["retrieval"]
    assert (spec.dimension, spec.history_length, spec.markets) == (8, 20, ["de", "fr"])
    assert (spec.collection, spec.counts_day) == ("titles_2026_03_31_0123456789", "2026-03-29")
    assert ("ranker.txt" in files) == (spec.ranker.kind == "lambdamart")
    assert result["title_features_differing"] == 0 < result["title_features_compared"]


def test_training_again_gives_the_same_bytes(slates_home, config, trained):
    step.train(slates_home, RELEASE, config)
    folder = slates_home.releases / RELEASE
    for name, content in trained[1].items():
        assert (folder / name).read_bytes() == content, name


def test_a_lambdamart_scores_by_names_that_serving_checks(slates_home, config):
    """Forced to LambdaMART: the file loads, with the agreed features in the agreed order."""
    pools, slates = pools_of(slates_home, config, 200)
    rows = [training_rows(pool, slates[pool.request.request_id], SEEN, config) for pool in pools]
    model = train_lambdamart(with_something_to_learn(rows), 10, config, 2)
    loaded = lightgbm.Booster(model_str=model.model_to_string())
    assert tuple(loaded.feature_name()) == RANKING_FEATURES
    features = validation_rows(pools[0], NOTHING_SHOWN, SEEN, config).features_KR
    np.testing.assert_array_equal(loaded.predict(features), model.predict(features))


def test_a_play_counts_by_the_place_it_was_found_at(slates_home, config):
    pools, slates = pools_of(slates_home, config, 60)
    plays, capped = 0, 0
    for pool in pools:
        slate = slates[pool.request.request_id]
        rows = training_rows(pool, slate, SEEN, config)
        titles = [t for t in pool.candidates.title_ids if t in slate.row_of]
        assert rows.place_S[rows.place_S > 0].tolist() == [slate.position[slate.row_of[t]] for t in titles]
        played = rows.gain_S > 0
        assert rows.weight_S[played] == pytest.approx(np.minimum(rows.place_S[played], config.most_weight))
        assert (rows.weight_S[~played] == 1).all()
        plays, capped = plays + played.sum(), capped + (rows.place_S[played] > config.most_weight).sum()
        places = [slate.position[slate.row_of[t]] for t in pool.request.relevant] or [1]
        request = validation_rows(pool, slate, SEEN, config)
        assert request.weight == pytest.approx(np.mean(np.minimum(places, config.most_weight)))
        assert training_rows(pool, slate, Attention("none"), config).weight_S.tolist() == [1] * len(rows.gain_S)
    assert plays > capped > 5


def test_the_place_moves_weights_and_never_features(slates_home, config):
    pools, slates = pools_of(slates_home, config)
    for pool in pools:
        slate = slates[pool.request.request_id]
        moved = replace(slate, position=slate.position[::-1])
        one, other = (training_rows(pool, s, SEEN, config) for s in (slate, moved))
        np.testing.assert_array_equal(one.features_SR, other.features_SR)
    assert len(pools) > 10


def test_the_curve_comes_from_exploration_slots_before_the_block(slates_home, config, tmp_path):
    attention = trained_attention(slates_home, config)
    assert attention["kind"] == "exploration"
    assert attention["curve"] == pytest.approx(ATTENTION, rel=0.15)
    assert 0 < attention["effective_plays"] < attention["training_plays"]
    world = World()
    world.logged += [row | {"event_time": SPLIT.retriever_end + timedelta(hours=1), "engagement": 3} for row in world.logged]
    assert trained_attention(world.write(tmp_path), config)["curve"] == attention["curve"]


def test_a_log_is_counted_in_parts():
    rows = [{"position": p, "explored": p % 2 == 0, "title_id": f"t{p % 7}", "device": None, "engagement": p % 3} for p in range(1, 301)]
    schema_ = pa.schema([("position", pa.int32()), ("explored", pa.bool_()), ("title_id", pa.string()), ("device", pa.string()),
                         ("engagement", pa.int32())])
    whole = pa.RecordBatch.from_pylist(rows * 2, schema_)
    parts = [whole.slice(start, 4) for start in range(0, len(whole), 4)]
    assert counted(parts).to_pylist() == counted([whole]).to_pylist()
    assert pa.compute.sum(counted(parts)["shown"]).as_py() == 600
    assert counted([]).num_rows == 0


def test_a_pool_is_what_the_profile_could_be_shown(slates_home, config):
    world = World()
    maturity = {row["title_id"]: row["maturity"] for row in world.titles}
    pools, _ = pools_of(slates_home, config)
    for pool in pools:
        titles = pool.candidates.title_ids
        assert len(set(titles)) == len(titles) <= TITLES
        assert all(maturity[title] <= 12 for title in titles)
        watched = {p["title_id"] for p in world.plays if p["profile_id"] == pool.request.profile.profile_id
                   and p["engaged"] and p["known_at"] < pool.request.context.moment}
        assert watched
        assert not watched & set(titles)
        assert list(pool.candidates.retrieval_score) == sorted(pool.candidates.retrieval_score, reverse=True)


def test_nothing_after_a_request_changes_its_rows(slates_home, config, tmp_path):
    """Canaries: plays after the request, and counts newer than the lag allows, that would give the label away."""
    world = World()
    for row in world.daily:
        if row["feature_time"] > SPLIT.ranker_end - SPLIT.counts_lag:
            row["plays_7d"], row["plays_30d"] = 1_000_000, 1_000_000
    for request in [r for r in world.requests if r["role"] == "ranker"]:
        for title in request["relevant_titles"]:
            world._play(request["profile_id"], title, SPLIT.ranker_end + timedelta(hours=2), 1.0)
    honest, slates = pools_of(slates_home, config)
    spoilt, _ = pools_of(world.write(tmp_path), config)
    assert len(honest) == len(spoilt) > 10
    for one, other in zip(honest, spoilt):
        np.testing.assert_array_equal(one.features(), other.features())
        slate = slates[one.request.request_id]
        np.testing.assert_array_equal(training_rows(one, slate, SEEN, config).features_SR,
                                      training_rows(other, slate, SEEN, config).features_SR)


def test_requests_outside_the_ranker_s_block_are_refused(config, tmp_path):
    """The block that the retriever has seen makes a ranker superb on validation and worse on the day: never train there."""
    world = World(profiles=40)
    world.requests[3]["event_time"] = SPLIT.retriever_end - timedelta(minutes=1)
    world.requests[3] |= {"relevant_titles": ["t001"], "relevant_gains": [1]}
    settings = world.write(tmp_path)
    with pytest.raises(MarqueeError, match="outside the ranker's block"):
        step.train(settings, RELEASE, config)
    assert not (settings.releases / RELEASE / "spec.json").exists()


def test_profiles_are_either_learnt_from_or_validated_on(config):
    parts = [part_of(f"p{i}", config) for i in range(4000)]
    assert set(parts) == set(range(config.validation_one_in))
    assert 800 < parts.count(0) < 1200
    assert parts == [part_of(f"p{i}", config) for i in range(4000)]


def test_a_source_without_impressions_learns_from_next_plays(plays_home, config):
    result = step.train(plays_home, RELEASE, config)
    assert result["title_features_compared"] == 0
    assert result["training_requests"] > 30
    assert {name.split()[1] for name in result["ndcg_at_10"] if name.startswith("lambdamart")} == {"pool"}
    assert result["attention"].startswith("none")
    pools, _ = pools_of(plays_home, config)
    rows = [training_rows(pool, NOTHING_SHOWN, Attention("none"), config) for pool in pools]
    assert sum(row.gain_S.max() for row in rows) > 0


def test_too_little_to_pick_from_ships_the_blend_and_says_why(plays_home, config):
    result = step.train(plays_home, RELEASE, replace(config, min_validation_requests=10_000))
    spec = json.loads((plays_home.releases / RELEASE / "spec.json").read_text())["ranker"]
    assert spec["kind"] == "blend"
    assert (spec["transition_weight"], spec["cowatch_weight"]) == config.default_blend
    assert "10000 needed" in spec["reason"]
    assert spec["reason"] == result["reason"]
    assert not (plays_home.releases / RELEASE / "ranker.txt").exists()


def test_blends_are_judged_by_every_request_and_lambdamart_by_those_it_has_not_learnt_from(config):
    """The blend that the held-out requests like best is not that of all requests, which are more."""
    def request(i: int, first: bool, held_out: bool) -> ValidationRows:
        scores, gain = np.array([1.0, 0.0]), np.array([1, 0]) if first else np.array([0, 1])
        return ValidationRows(0 if held_out else None, np.zeros((2, len(RANKING_FEATURES))) if held_out else None, scores, 10 * scores[::-1], np.zeros(2), gain,
                              np.ones(1, np.int64), f"p{i}", 1.0)

    held = [request(i, first=True, held_out=True) for i in range(30)]
    others = [request(30 + i, first=False, held_out=False) for i in range(120)]
    assert choose({}, held, config, 1).spec.kind == "retrieval"
    assert choose({}, [*held[:14], *others[:16]], config, 1).spec.kind == "blend", "the better, though by no standard error"
    found = choose({}, [*held, *others], config, 1)
    assert found.spec.kind == "blend"
    assert found.spec.validation["retrieval"] < found.spec.validation[found.spec.picked]
    assert "150 requests" in found.spec.reason
    assert "30 held out" in found.spec.reason


def test_every_request_is_judged_by_trees_that_have_not_learnt_from_its_part(config, monkeypatch):
    def learns(part: int) -> TrainingRows:
        return TrainingRows(np.full((2, len(RANKING_FEATURES)), float(part)), np.array([1, 0]), np.array([1, 2]), np.ones(2))

    class Model:
        def __init__(self, lists):
            self.parts = {int(r.features_SR[0, 0]) for r in lists}

        def predict(self, pools_NR, **_):
            assert not self.parts & set(pools_NR[:, 0].astype(int))
            return np.arange(len(pools_NR), dtype=float) + 100 * len(self.parts)

    monkeypatch.setattr(choosing, "train_lambdamart", lambda lists, *_: Model(lists))
    lists = {part: [learns(part)] * 40 for part in range(4)}
    judges = [ValidationRows(i % 4, np.full((3, len(RANKING_FEATURES)), float(i % 4)), *[np.zeros(3)] * 3, np.zeros(3, np.int64),
                             np.ones(1, np.int64), f"p{i}", 1.0) for i in range(20)]
    found = choosing._unseen_scores(VARIANTS["slate"], lists, judges, config, 1)
    assert list(found) == list(config.rounds)
    assert all(len(scores_K) == 3 and scores_K[0] >= 300 for scores_K in found[config.rounds[0]])
    short = {**lists, 0: [learns(0)] * (config.min_training_requests + 121), 1: [], 2: [], 3: []}
    assert choosing._unseen_scores(VARIANTS["slate"], short, judges, config, 1) == {}, "without part 0 there are none"


def test_each_number_of_trees_has_the_scores_of_that_number(config):
    """They are summed up part by part, and no part changes what was kept of an earlier one."""
    random = np.random.default_rng(0)

    def learns() -> TrainingRows:
        features_SR = random.random((20, len(RANKING_FEATURES)))
        return TrainingRows(features_SR, (features_SR[:, 1] > 0.8).astype(np.int64), np.zeros(20, np.int64), np.ones(20))

    lists = {1: [learns() for _ in range(200)]}
    judges = [ValidationRows(0, random.random((5, len(RANKING_FEATURES))), *[np.zeros(5)] * 3, np.zeros(5, np.int64), np.ones(1, np.int64),
                             f"p{i}", 1.0) for i in range(3)]
    found = choosing._unseen_scores(VARIANTS["pool"], lists, judges, config, 1)
    for rounds in config.rounds:
        model = train_lambdamart(VARIANTS["pool"].lists(lists[1]), rounds, config, 1)
        for scores_K, judge in zip(found[rounds], judges, strict=True):
            np.testing.assert_allclose(scores_K, model.predict(judge.features_KR), rtol=1e-9)


def test_weights_of_equal_worth_are_averaged_and_clear_ones_are_not(config):
    """So that two nights of one truth, each with its own noise, ship nearly the same blend."""
    noise_VK = np.random.default_rng(0).normal(0, 0.3, (400, 3))
    weights = [(0.0, 0.4), (0.0, 0.8), (0.0, 1.6)]
    night, other = ({w: 0.5 + noise_V for w, noise_V in zip(weights, half.T, strict=True)} for half in (noise_VK[:200], noise_VK[200:]))
    by_night = [bagged_weights(found, judged(np.ones(200), config)) for found in (night, other)]
    assert all(0.4 < cowatch < 1.6 for _, cowatch in by_night)
    assert all(weights_of not in night for weights_of in by_night)
    clear = night | {(0.2, 3.2): night[0.0, 1.6] + 0.5}
    assert bagged_weights(clear, judged(np.ones(200), config)) == (0.2, 3.2)


def test_too_little_to_train_on_still_picks_a_blend(plays_home, config):
    result = step.train(plays_home, RELEASE, replace(config, min_training_requests=10_000))
    assert result["kind"] in ("blend", "retrieval")
    assert "LambdaMART not tried" in result["reason"]


def test_no_requests_at_all(config, tmp_path):
    settings = World(profiles=0).write(tmp_path)
    assert step.train(settings, RELEASE, config)["kind"] == "blend"


def test_an_unfinished_release_is_named(config, tmp_path):
    with pytest.raises(UsageError, match="release begin"):
        step.train(Settings(_env_file=None, home=tmp_path), RELEASE, config)


def test_a_feature_store_that_disagrees_is_noticed(slates_home, config):
    pools, slates = pools_of(slates_home, config)
    slate = slates[pools[0].request.request_id]
    changed = replace(slate, columns={name: values + 1 for name, values in slate.columns.items()})
    differing, compared = mismatched_title_features(pools[0], changed)
    assert differing == compared > 0
    assert mismatched_title_features(pools[0], slate) == (0, compared)


def test_ndcg_of_a_pool_counts_what_retrieval_missed():
    gains, scores = np.array([0, 3, 0]), np.array([1.0, 3.0, 2.0])
    assert ndcg(scores, gains, np.array([3])) == 1.0
    assert ndcg(scores, gains, np.array([3, 3])) < 1.0
    assert ndcg(np.zeros(3), gains, np.array([3])) == pytest.approx(1 / np.log2(3))  # ties keep the pool's order
    assert ndcg(scores, gains, np.zeros(0, np.int64)) == 0.0


def test_silent_slates_teach_nothing():
    silent = TrainingRows(np.zeros((2, 3)), np.zeros(2, np.int64), np.array([1, 2]), np.ones(2))
    assert with_something_to_learn([silent]) == []


def test_slates_keep_the_first_place_of_a_title_shown_twice():
    rows = [{"request_id": "r", "title_id": t, "position": p, "propensity": 0.5} for t, p in (("a", 1), ("b", 2), ("a", 3))]
    columns = TRAINING_COLUMNS["impressions"]
    slate = slates_from(pa.Table.from_pylist([{c: row.get(c) for c in columns} for row in rows], schema(columns)))["r"]
    assert slate.position[slate.row_of["a"]] == 1


def test_negatives_are_drawn_alike_at_every_rank():
    """More of the best retrieved would teach the trees that what is far down is good."""
    config = RankerConfig(negatives=50)
    kept = np.mean([rows._sampled(400, np.random.default_rng(seed), config) for seed in range(400)], axis=0)
    assert kept.sum() == pytest.approx(50)
    assert kept[:40].mean() == pytest.approx(kept[200:].mean(), rel=0.1)


def judged(weight_V: np.ndarray, config, profiles: int = 0) -> Validation:
    rows = [ValidationRows(0, np.zeros((1, 1)), np.zeros(1), np.zeros(1), np.zeros(1), np.zeros(1, np.int64), np.ones(1, np.int64),
                           f"p{i % (profiles or len(weight_V))}", weight) for i, weight in enumerate(weight_V)]
    return Validation(rows, config)


def test_the_simplest_within_noise_of_the_best_is_picked(config):
    rng = np.random.default_rng(0)
    easy_V = rng.random(400)
    noise_V = rng.normal(0, 0.3, 400)
    noise_V -= noise_V.mean()
    ndcg_V = {"retrieval": easy_V - 0.1, "blend 0.4 0": easy_V, "blend 0.8 0": easy_V + 0.002 + 0.01 * noise_V,
              "lambdamart pool 50": easy_V + noise_V + 0.005, "lambdamart slate 200": easy_V + noise_V + 0.008}
    pick, reason = simplest_of_the_best(ndcg_V, judged(np.ones(400), config), KINDS)
    assert pick == "blend 0.8 0"
    assert "within two standard errors" in reason
    assert "lambdamart slate 200" in reason
    clear = ndcg_V | {"lambdamart slate 200": easy_V + 0.05}
    assert simplest_of_the_best(clear, judged(np.ones(400), config), KINDS)[0] == "lambdamart slate 200"


def test_the_number_of_trees_is_the_smallest_within_one_standard_error(config):
    rng = np.random.default_rng(0)
    easy_V, noise_V = rng.random(400), rng.normal(0, 0.2, 400)
    noise_V -= noise_V.mean()  # its standard error: .01
    ndcg_V = {"lambdamart pool 50": easy_V - 0.015, "lambdamart pool 100": easy_V - 0.005, "lambdamart pool 400": easy_V + noise_V}
    pick, reason = simplest_of_the_best(ndcg_V, judged(np.ones(400), config), NEIGHBOURS)
    assert pick == "lambdamart pool 100"
    assert "within one standard error of" in reason
    assert simplest_of_the_best(ndcg_V, judged(np.ones(400), config), KINDS)[0] == "lambdamart pool 50"


def test_a_heavy_request_moves_the_mean_and_lowers_the_effective_count(config):
    heavy = judged(np.array([1.0, 1.0, 4.0]), config)
    assert heavy.mean(np.array([0.0, 0.0, 1.0])) == pytest.approx(4 / 6, abs=1e-6)
    assert effective_size(heavy.weight_V) == pytest.approx(36 / 18)


def test_requests_of_one_profile_are_not_independent(config):
    difference_V = np.repeat(np.random.default_rng(0).normal(size=50), 8)  # the same for all eight of a profile
    alone = judged(np.ones(400), config).bootstrap.error(difference_V)
    together = judged(np.ones(400), config, profiles=50).bootstrap.error(np.resize(difference_V[::8], 400))
    assert together == pytest.approx(np.sqrt(8) * alone, rel=0.15)


def test_the_spec_of_an_older_release_still_reads():
    old = {"kind": "blend", "transition_weight": 0.4, "reason": "r", "validation": {"blend 0.4 0": 0.3}}
    assert RankerSpec.model_validate(old).attention == {}

"""The position benchmark's parts, on a nano world and a made-up click log."""

import numpy as np
import pytest

from bench.position import yandex
from bench.position.simulated import FLAT, Judged, Requests, Service, attention_of, draw_gains
from contracts.errors import UsageError
from jobs.attention import Attention
from jobs.ranker.config import RankerConfig
from jobs.ranker.rows import training_rows
from jobs.sources.world import behaviour
from jobs.sources.world.recipes import nano


@pytest.fixture(scope="module")
def service():
    return Service.simulate(nano(), 1, 6)


def test_rows_are_the_logged_slates(service):
    log = service.impressions(range(4, 5))
    night = Requests(service, 4, 1, RankerConfig(pool_size=50))
    pairs = [night.pool(session) for session in range(len(night.day.sessions))]
    rows = [training_rows(pool, slate, Attention("none"), night.config) for pool, slate, _ in pairs]
    played = sum(int((r.gain_S > 0).sum()) for r in rows)
    assert played == sum(len(pool.request.relevant) for pool, _, _ in pairs) > 50
    assert played == log["engaged"].sum()
    assert max(r.place_S.max() for r in rows) == log["position"].max() == 20


def test_labels_of_the_oracle_do_not_know_the_place():
    play_K = np.full(40_000, 0.3)
    gain_K = draw_gains(np.random.default_rng(0), play_K, 0.5)
    assert (gain_K > 0).mean() == pytest.approx(0.15, abs=0.01)
    assert set(gain_K) == {0, 1, 2, 3}


def test_the_truth_judges_itself_best(service):
    judged = Judged(Requests(service, 5, 1, RankerConfig(pool_size=50)), 20)
    true_N = np.concatenate(judged.true)
    assert judged.ndcg(true_N) == 1.0 > judged.ndcg(judged.retrieval_N) > judged.ndcg(-true_N)


def test_popularity_covers_less_than_taste(service):
    judged = Judged(Requests(service, 5, 1, RankerConfig(pool_size=50)), 40)
    assert judged.coverage(judged.plays_N, at=5) < judged.coverage(judged.retrieval_N, at=5) < 1.0
    assert judged.coverage(judged.plays_N, at=len(service.world.catalogue)) == 1.0


def test_a_flat_world_is_looked_at_alike():
    with attention_of(flat=True):
        flat = Service.simulate(nano(), 1, 4).impressions(range(4))
    late = flat["position"] > 10
    falls = Service.simulate(nano(), 1, 4).impressions(range(4))
    share = [log["engaged"][log["position"] > 10].mean() / log["engaged"][log["position"] <= 3].mean() for log in (flat, falls)]
    assert late.any()
    assert share[0] > 2 * share[1]
    assert 0 < FLAT < 1


def test_what_places_do_to_the_log_is_attention_and_that_members_leave(service):
    logged_S = service.logged_attention(range(6))
    true_S = np.mean([behaviour.attention(np.arange(1, 21), np.full(20, device)) for device in range(4)], axis=0)
    assert logged_S[0] == 1.0
    np.testing.assert_allclose(logged_S[1:6], (true_S / true_S[0])[1:6], rtol=0.25)
    assert logged_S[5:].mean() < (true_S / true_S[0])[5:].mean(), "the third play ends a session"


def clicks(path, sessions: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    lines = []
    for _ in range(sessions):
        query = rng.integers(20)
        documents = query * 10 + rng.permutation(10)
        appeal = np.random.default_rng(query).uniform(0.1, 0.8, 10)[documents % 10]
        clicked = documents[rng.random(10) < appeal / np.arange(1, 11)]
        lines.append(f"{query}_1\t{','.join(map(str, documents))} : {' , '.join(map(str, clicked))}; ")
    path.write_text("".join(lines))


def test_clicks_are_likelier_with_places_than_without(tmp_path):
    clicks(tmp_path / "trainSample", 3000, 1)
    clicks(tmp_path / "testSample", 1000, 2)
    none, _, em = yandex.measure(tmp_path)
    assert em["gain"] > 4 * em["gain_error"] > 0
    assert em["perplexity"] < none["perplexity"]
    np.testing.assert_allclose(em["curve"][:5], 1 / np.arange(1, 6), rtol=0.15)


def test_a_file_that_is_no_click_log_is_named(tmp_path):
    (tmp_path / "trainSample").write_text("1_1\t1,2,3; ")
    with pytest.raises(UsageError, match="trainSample: entry 0"):
        yandex.measure(tmp_path)
    with pytest.raises(UsageError, match="cannot be read"):
        yandex.sessions(tmp_path / "nothing")

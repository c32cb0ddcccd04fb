"""The funnel's benchmark: what the ranker learns on is what retrieval has not seen, with the product's own features."""

import numpy as np
import pytest

from bench.ranking.__main__ import Stage, _retrieved, parser, run
from bench.ranking.block import before_ranker
from bench.ranking.funnel import full_ranking
from bench.ranking.pools import Retrieved
from bench.retrieval import data as dataset
from bench.retrieval.data import TEST, TRAIN, VALID
from bench.retrieval.requests import requests_of
from contracts.features import RANKING_FEATURES
from tests.bench.test_retrieval import chains, written


def options(path, *more):
    return parser().parse_args(["--interactions", str(path), "--protocol", "leave-last-out", "--recipe", "quick",
                                "--out", str(path.with_suffix(".json")), *more])


@pytest.fixture
def chained(tmp_path):
    return dataset.load(written(tmp_path, chains()), None, None, "leave-last-out")


def retrieved(data, requests, size=10):
    """Towers that would rank by the catalogue's order."""
    towers = lambda rows: np.tile(-np.arange(requests.titles, dtype=np.float32), (len(rows), 1))  # noqa: E731
    return Retrieved.of(data, requests, towers, True, size)


def test_the_ranker_asks_for_the_newest_training_rows_and_nothing_of_them_is_learnt_before(chained):
    earlier = before_ranker(chained, profiles=50, seed=0)
    asked = requests_of(earlier, VALID, "train")
    assert len(asked) == 50
    wanted = asked.first + asked.length
    newest = chained.first() + chained.count(TRAIN) - 1
    assert set(wanted) <= set(newest)
    assert not asked.learns[wanted].any()
    assert not asked.learns[chained.role != TRAIN].any()
    assert asked.learns.sum() == np.sum(chained.role == TRAIN) - 50


def test_short_histories_keep_most_of_their_rows_for_the_towers(chained):
    earlier = before_ranker(chained, profiles=10_000, seed=0)
    assert np.sum(earlier.role == VALID) == int(0.1 * np.sum(chained.role == TRAIN))


def test_counts_and_transitions_are_equally_old_where_the_ranker_learns_and_where_it_is_asked(chained):
    earlier = before_ranker(chained, profiles=120, seed=0)
    stage = Stage(trainer=None, learns_E=earlier.role == TRAIN, lists=[])
    learns = np.bincount(chained.title[stage.learns_E], minlength=40)
    for data, role in ((earlier, VALID), (chained, VALID), (chained, TEST)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("bench.ranking.__main__.systems.towers", lambda *_: lambda rows: np.zeros((len(rows), 40), np.float32))
            made = _retrieved(data, requests_of(data, role, "train"), stage, options_of(40))
        _, pool = next(made.pools(np.array([0])))
        assert pool.candidates.columns["plays_30d"].tolist() == learns[pool.rows_K].tolist()
        assert np.array_equal(made.requests.learns, stage.learns_E)


def options_of(pool):
    return parser().parse_args(["--interactions", "x", "--protocol", "roles", "--out", "y", "--pool", str(pool)])


def test_a_pool_holds_the_best_unseen_titles_and_followers_best_retrieved_first(chained):
    test = requests_of(chained, TEST, "train")
    made = retrieved(chained, test)
    for row, (_, pool) in enumerate(made.pools(np.arange(20))):
        seen = set(chained.title[test.history(row)])
        unseen = [title for title in range(40) if title not in seen]
        assert set(unseen[:10]) <= set(pool.rows_K)
        assert not seen & set(pool.rows_K)
        assert np.all(np.diff(pool.rows_K) > 0), "the towers' order is the catalogue's here"
        follower = (chained.title[test.first[row] + test.length[row]])
        assert follower in pool.rows_K, "what always follows is among the candidates wherever the towers put it"


def test_the_product_computes_the_features_from_what_the_files_say(tmp_path):
    titles = {"title_id": [str(t) for t in range(6)], "genres": ["drama"] * 3 + ["comedy"] * 3, "year": [1990 + t for t in range(6)]}
    people = {"profile_id": ["0"], "preferred_genres": [["comedy"]]}
    columns = {"profile_id": [0] * 5, "title_id": [0, 1, 3, 4, 5], "ts": [1, 2, 3, 4, 5], "role": ["train"] * 3 + ["valid", "test"], "rating": [1, 5, 5, 5, 5]}
    data = dataset.load(written(tmp_path, columns), written(tmp_path, titles, "t.parquet"), written(tmp_path, people, "p.parquet"), "roles")
    _, pool = next(retrieved(data, requests_of(data, VALID, "train")).pools(np.array([0])))
    assert pool.candidates.title_ids == ["4", "5", "2"], "the one that nobody watched stands last in the catalogue"
    value = dict(zip(RANKING_FEATURES, pool.features().T, strict=True))
    assert value["genre_affinity"] == pytest.approx([1 / 3, 1 / 3, 2 / 3])
    assert value["preferred_genre_match"].tolist() == [1, 1, 0]
    assert value["title_year"].tolist() == [1994, 1995, 1992]
    assert np.isnan(value["title_completion_30d"]).all()
    assert pool.gains().tolist() == [1, 0, 0]


def test_the_funnels_order_stands_above_what_was_not_retrieved_and_equal_ones_keep_retrieval_order(chained):
    test = requests_of(chained, TEST, "train")
    made = retrieved(chained, test)
    _, pool = next(made.pools(np.array([0])))
    by_last = full_ranking(made, lambda pool: np.where(pool.rows_K == pool.rows_K[-1], 1.0, 0.0))(np.array([0]))[0]
    order = np.argsort(-by_last, kind="stable")
    assert order[: len(pool.rows_K)].tolist() == [pool.rows_K[-1], *pool.rows_K[:-1]]
    rest = order[len(pool.rows_K) :]
    assert np.all(np.diff(rest) > 0)


@pytest.mark.parametrize("fit", ["train", "train+valid"])
def test_the_command_shows_retrieval_order_blend_and_lambdamart_beside_the_pick(tmp_path, fit):
    result = run(options(written(tmp_path, chains(300, 300)), "--fit", fit))
    assert result["beside"].keys() == {"popularity", "knn", "retrieval", "blend", "lambdamart"}
    assert result["model"]["kind"] in ("retrieval", "blend", "lambdamart")
    assert result["test"] == result["beside"][result["model"]["kind"]]["test"]
    assert result["beside"]["lambdamart"]["test"]["ndcg@10"] > result["beside"]["retrieval"]["test"]["ndcg@10"]
    assert result["model"]["ranker_requests"] > 100
    assert any("one step later" in phase for phase in result["seconds"]) == (fit == "train+valid")


def test_test_rows_choose_nothing_and_equal_seeds_give_equal_figures(tmp_path):
    columns = chains()
    one, again = (run(options(written(tmp_path, columns))) for _ in range(2))
    last = columns["ts"] == columns["ts"].max()
    changed = run(options(written(tmp_path, {**columns, "title_id": np.where(last, (columns["title_id"] * 7 + 3) % 40, columns["title_id"])})))
    assert one["test"] == again["test"]
    assert (one["valid"], one["model"]) == (changed["valid"], changed["model"])
    assert one["test"] != changed["test"]

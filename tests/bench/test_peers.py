"""Peers on made-up interactions. The peers' own environment is not made here: those that need no library of it run in the
product's, and one that does need one shows what its absence looks like.
"""

import json
import sys
from dataclasses import replace

import numpy as np
import pytest

from bench.peers import __main__ as peers
from bench.peers import environment, one
from bench.peers.__main__ import parser, run
from bench.peers.models import DENSE_TITLES, Candidate, ease, histories, learnt_matrix, too_many_titles
from bench.retrieval import data as dataset
from bench.retrieval.data import TEST, TRAIN
from bench.retrieval.requests import requests_of
from contracts.errors import MarqueeError, UsageError
from tests.bench.test_retrieval import chains, written


def options(path, *more):
    return parser().parse_args(["--interactions", str(path), "--protocol", "leave-last-out", "--out", str(path.with_suffix(".json")), *more])


@pytest.fixture
def chained(tmp_path):
    return dataset.load(written(tmp_path, chains()), None, None, "leave-last-out")


@pytest.fixture
def in_the_products_environment(monkeypatch):
    monkeypatch.setattr(environment, "python", lambda: sys.executable)


@pytest.mark.usefixtures("in_the_products_environment")
def test_peers_answer_the_requests_of_bench_retrieval_and_one_that_cannot_run_is_named(tmp_path):
    result = run(options(written(tmp_path, chains()), "--peers", "ease,als,sequential-knn"))
    assert result["data"]["requests"] == {"valid": 150, "test": 150, "asking again": 0}
    assert result["peers"]["sequential-knn"]["test"]["hr@10"] > 0.9, "in a chain, what follows is certain"
    assert "implicit" in result["peers"]["als"]["not_run"]
    found = result["peers"]["ease"]
    assert {"hr@10", "ndcg@10", "mrr", "coverage@200", "bounds"} <= found["test"].keys()
    assert found["seconds"].keys() == {"read", "choose", "validate", "test"}
    assert found["cpu_seconds"]["train"] <= found["cpu_seconds"]["choose"] + 0.1
    assert found["peak_memory_mib"] > 0
    assert found["setting"]["regularization"] == float(max(found["valid ndcg@10 by setting"].items(), key=lambda pair: pair[1])[0].split()[-1].strip("}"))


@pytest.mark.usefixtures("in_the_products_environment")
def test_test_rows_choose_nothing(tmp_path):
    columns = chains()
    one_way = run(options(written(tmp_path, columns), "--peers", "ease"))["peers"]["ease"]
    last = columns["ts"] == columns["ts"].max()
    other = {**columns, "title_id": np.where(last, (columns["title_id"] * 7 + 3) % 40, columns["title_id"])}
    other_way = run(options(written(tmp_path, other), "--peers", "ease"))["peers"]["ease"]
    assert (one_way["valid"], one_way["setting"]) == (other_way["valid"], other_way["setting"])
    assert one_way["test"] != other_way["test"]


@pytest.mark.usefixtures("in_the_products_environment")
def test_a_run_that_was_stopped_goes_on_with_the_peers_that_are_left(tmp_path, monkeypatch):
    path = written(tmp_path, chains())
    first = run(options(path, "--peers", "ease"))
    ran = []

    def counted(interpreter, name, options, really=peers._one):
        ran.append(name)
        return really(interpreter, name, options)

    monkeypatch.setattr(peers, "_one", counted)
    both = run(options(path, "--peers", "sequential-knn,ease"))
    assert ran == ["sequential-knn"]
    assert list(both["peers"]) == ["ease", "sequential-knn"]
    assert both["peers"]["ease"] == first["peers"]["ease"]
    assert json.loads(path.with_suffix(".json").read_text()) == both
    run(options(path, "--peers", "ease", "--seed", "8"))
    run(options(written(tmp_path, {**chains(), "title_id": chains()["title_id"] + 1}), "--peers", "ease", "--seed", "8"))
    assert ran == ["sequential-knn", "ease", "ease"]


def test_wrong_use_is_said(tmp_path):
    with pytest.raises(UsageError, match="--peers nobody: there are item-knn"):
        run(options(written(tmp_path, chains()), "--peers", "nobody"))
    with pytest.raises(UsageError, match="no such file"):
        run(options(tmp_path / "nothing.parquet"))


@pytest.mark.usefixtures("in_the_products_environment")
def test_bad_input_of_a_peers_process_is_the_commands_own(tmp_path):
    path = written(tmp_path, {"profile_id": [1], "title_id": [1]})
    with pytest.raises(UsageError, match="no column ts"):
        run(options(path, "--peers", "ease"))


@pytest.mark.usefixtures("in_the_products_environment")
def test_sets_have_no_sequential_peers(tmp_path):
    found = run(options(written(tmp_path, chains()), "--peers", "ease,sequential-knn", "--unordered"))["peers"]
    assert "--unordered" in found["sequential-knn"]["not_run"]
    assert "test" in found["ease"]


def test_ease_solves_its_regression(chained):
    """min |X - XB|^2 + lambda |B|^2 with an empty diagonal: the gradient vanishes off the diagonal (Steck, 2019, eq. 2-4)."""
    learns = chained.role == TRAIN
    test = requests_of(chained, TEST, "train")
    rows = np.arange(5)
    scores_QT = ease(chained, learns, 0, regularization=3.0)(test)(rows)
    x_PT = learnt_matrix(chained, learns).toarray().astype(float)
    gram_TT = x_PT.T @ x_PT
    history_QT = histories(test, rows).toarray()
    weights = []
    for title in range(gram_TT.shape[0]):
        others = np.delete(np.arange(gram_TT.shape[0]), title)
        solved = np.linalg.solve(gram_TT[np.ix_(others, others)] + 3.0 * np.eye(len(others)), gram_TT[others, title])
        weights.append(np.insert(solved, title, 0.0))
    assert scores_QT == pytest.approx(history_QT @ np.stack(weights, axis=1), abs=1e-4)


def test_newer_plays_weigh_more_where_a_peer_asks_for_it(chained):
    test = requests_of(chained, TEST, "train")
    row = np.array([3])
    plain, recent = histories(test, row).toarray()[0], histories(test, row, half_life=1.0).toarray()[0]
    mine = chained.title[test.history(3)]
    assert plain[mine].tolist() == [1.0] * 9
    assert recent[mine].tolist() == [0.5**later for later in range(8, -1, -1)]


def test_a_dense_matrix_of_too_many_titles_is_not_tried(chained):
    assert too_many_titles(chained) == ""
    many = replace(chained, title_ids=["t"] * (DENSE_TITLES + 1))
    assert str(DENSE_TITLES) in too_many_titles(many)


def candidates(chained, qualities):
    """Each finds what is asked for with the given chance."""
    def answers_of(quality):
        def answers(requests):
            lucky = np.random.default_rng(0).random(len(requests)) < quality

            def scores(rows):
                out_QT = np.random.default_rng(1).random((len(rows), requests.titles))
                relevant = requests.relevant(rows)
                out_QT[relevant.request, relevant.title] = np.where(lucky[rows][relevant.request], 2.0, -1.0)
                return out_QT

            return scores

        return answers

    return (Candidate({"number": number}, answers_of(quality), float(number)) for number, quality in enumerate(qualities))


def test_the_best_on_validation_is_chosen_and_a_long_training_ends_where_nothing_gets_better(chained):
    valid = requests_of(chained, TEST, "train")
    qualities = [0.1, 0.9, *[0.5] * one.PATIENCE, 1.0]
    best, by_setting = one._choose(chained, valid, candidates(chained, qualities), stops_early=False)
    assert best.setting == {"number": len(qualities) - 1}
    best, by_setting = one._choose(chained, valid, candidates(chained, qualities), stops_early=True)
    assert best.setting == {"number": 1}
    assert len(by_setting) == 2 + one.PATIENCE


def test_popularity_answers_where_a_peer_knows_nothing(chained):
    test = requests_of(chained, TEST, "train")
    scores = one._known(chained, test, lambda requests: lambda rows: np.outer(rows == 0, np.arange(40.0)))
    first, second = scores(np.array([0, 1]))
    assert first.tolist() == list(range(40))
    assert second.tolist() == np.bincount(chained.title[test.learns], minlength=40).tolist()


def test_the_environment_is_made_once_and_again_where_the_requirements_change(tmp_path, monkeypatch):
    monkeypatch.setenv("MARQUEE_HOME", str(tmp_path))
    calls = []

    def uv(*arguments):
        calls.append(arguments[0])
        (tmp_path / "bench" / "peers").mkdir(parents=True, exist_ok=True)

    monkeypatch.setattr(environment, "_uv", uv)
    assert environment.python() == environment.python()
    assert calls == ["venv", "pip"]
    monkeypatch.setattr(environment, "REQUIREMENTS", written_text(tmp_path / "requirements.txt", "numpy==1.26.4\n"))
    environment.python()
    assert calls == ["venv", "pip"] * 2


def written_text(path, text):
    path.write_text(text)
    return path


def test_an_environment_that_cannot_be_made_says_why(tmp_path, monkeypatch):
    monkeypatch.setenv("MARQUEE_HOME", str(tmp_path))
    monkeypatch.setattr(environment, "REQUIREMENTS", written_text(tmp_path / "requirements.txt", "no name at all\n"))
    with pytest.raises(MarqueeError, match="could not be made"):
        environment.python()

"""The retrieval benchmark on made-up interactions of several shapes, run as its user runs it."""

import json
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy.sparse import csr_matrix

from bench.retrieval import baselines, evaluate
from bench.retrieval import data as dataset
from bench.retrieval.__main__ import _choose, _kind, parser, run
from bench.retrieval.data import TEST, TRAIN, VALID
from bench.retrieval.requests import both_parts, by_gap, requests_of
from bench.retrieval.systems import blends, plays_of
from contracts.errors import UsageError
from contracts.settings import REPOSITORY


def chains(profiles: int = 150, titles: int = 40, length: int = 10, seed: int = 0) -> dict[str, np.ndarray]:
    """Profiles walk along the catalogue from a random title: what follows is certain, popularity says nothing."""
    start = np.random.default_rng(seed).integers(titles, size=profiles)
    profile, step = np.repeat(np.arange(profiles), length), np.tile(np.arange(length), profiles)
    return {"profile_id": profile, "title_id": (start[profile] + step) % titles, "ts": step}


def written(folder, columns, name="interactions.parquet"):
    pq.write_table(pa.table(columns), folder / name)
    return folder / name


def options(path, *more):
    return parser().parse_args(["--interactions", str(path), "--out", str(path.with_suffix(".json")), *more])


def test_the_command_writes_a_result_in_which_the_model_beats_popularity(tmp_path):
    path = written(tmp_path, chains())
    done = subprocess.run([sys.executable, "-m", "bench.retrieval", "--interactions", path, "--protocol", "leave-last-out",
                           "--out", tmp_path / "result.json", "--k", "5,20"], cwd=REPOSITORY, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "result.json").read_text())
    assert {"hr@5", "hr@10", "recall@20", "ndcg@10", "mrr", "coverage@20"} <= result["test"].keys() & result["valid"].keys()
    assert result["test"]["hr@5"] > 2 * result["beside"]["popularity"]["test"]["hr@5"]
    assert result["configuration"]["fit"] == "train"
    assert result["seconds"].keys() >= {"read", "train", "validate", "test"}
    assert result["peak_memory_mib"] > 0


def test_equal_seeds_give_equal_figures_and_test_rows_choose_nothing(tmp_path):
    columns = chains()
    one = run(options(written(tmp_path, columns), "--protocol", "leave-last-out"))
    again = run(options(written(tmp_path, columns), "--protocol", "leave-last-out"))
    last = columns["ts"] == columns["ts"].max()
    other = {**columns, "title_id": np.where(last, (columns["title_id"] * 7 + 3) % 40, columns["title_id"])}
    changed = run(options(written(tmp_path, other), "--protocol", "leave-last-out"))
    assert one["test"] == again["test"]
    assert (one["valid"], one["model"]) == (changed["valid"], changed["model"])
    assert one["test"] != changed["test"]


@pytest.mark.parametrize(("knows", "kind"), [("towers", "towers"), ("knn", "towers and transitions"), ("cowatch", "towers and co-watch")])
def test_a_source_counts_as_much_as_validation_says(tmp_path, knows, kind):
    data = dataset.load(written(tmp_path, chains()), None, None, "leave-last-out")
    valid = requests_of(data, VALID, "train")
    random = np.random.default_rng(0)
    noise_QT = {name: random.random((len(valid), 40)) for name in ("towers", "knn", "cowatch")}
    noise_QT[knows][np.arange(len(valid)), valid.relevant(np.arange(len(valid))).title] += 5.0
    weights, looked_at = _choose(valid, {name: lambda rows, name=name: noise_QT[name][rows] for name in noise_QT})
    assert _kind(weights, ordered=True) == kind
    assert looked_at[" ".join(f"{weight:g}" for weight in weights.values())] == max(looked_at.values())


def test_sets_are_learnt_without_regard_to_their_order(tmp_path):
    random = np.random.default_rng(3)
    taste = random.integers(4, size=200)
    title = np.concatenate([random.permutation(np.arange(t, 40, 4))[:8] for t in taste])
    columns = {"profile_id": np.repeat(np.arange(200), 8), "title_id": title, "ts": np.tile(np.arange(8), 200)}
    result = run(options(written(tmp_path, columns), "--protocol", "leave-last-out", "--unordered", "--fit", "train+valid"))
    assert result["test"]["hr@10"] > 0.9, "two titles of a taste are left: both are among the first ten"
    assert result["configuration"]["ordered"] is False
    assert result["beside"]["popularity"]["test"]["hr@10"] < 0.6


def test_published_roles_several_test_rows_and_rows_of_no_role(tmp_path):
    columns = {"profile_id": ["b", "a", "a", "a", "a", "a", "b"], "title_id": ["t1", "t9", "t1", "t2", "t3", "t4", "t2"],
               "ts": [1, 5, 1, 2, 3, 4, 2], "role": ["train", "dropped", "test", "train", "valid", "test", "train"]}
    data = dataset.load(written(tmp_path, columns), None, None, "roles")
    assert data.title_ids == ["t1", "t2", "t3", "t4"]
    assert [data.title_ids[t] for t in data.title[data.profile == 0]] == ["t2", "t3", "t1", "t4"], "training, validation, test"
    test = requests_of(data, TEST, "train")
    assert len(test) == 1
    assert test.relevant(np.array([0])).title.tolist() == [0, 3]
    assert test.seen(np.array([0])).title.tolist() == [1, 2]
    assert np.array_equal(test.learns, data.role == TRAIN)
    assert requests_of(data, TEST, "train+valid").learns.sum() == test.learns.sum() + 1
    assert np.all(np.diff(plays_of(data).time)[np.diff(data.profile) == 0] > 0), "test rows come last whatever their time"


def test_later_times_are_judged_and_profiles_without_a_history_too(tmp_path):
    columns = {"profile_id": np.arange(10), "title_id": np.arange(10) % 3, "ts": 1_700_000_000 + 86_400 * np.arange(10)}
    data = dataset.load(written(tmp_path, columns), None, None, "global-time")
    assert data.timed
    assert data.role.tolist() == [TRAIN] * 8 + [VALID, TEST]
    assert requests_of(data, TEST, "train").length.tolist() == [0]


def test_slices_by_the_time_since_the_last_play(tmp_path):
    gaps, began = [60, 61, 3600, 86_401, 5], 1_700_000_000
    columns = {"profile_id": [*np.repeat(np.arange(5), 3), 9], "title_id": [*np.tile(np.arange(3), 5), 0],
               "ts": [*np.concatenate([[began, began + 9, began + 9 + gap] for gap in gaps]), began],
               "role": ["train", "valid", "test"] * 5 + ["test"]}
    data = dataset.load(written(tmp_path, columns), None, None, "roles")
    test = requests_of(data, TEST, "train")
    slices = {name: np.flatnonzero(mask_Q).tolist() for name, mask_Q in by_gap(data, test).items()}
    assert slices == {"gap up to a minute": [0, 4], "gap up to an hour": [1, 2], "gap above a day": [3]}, "profile 9 has no history"
    found = evaluate.figures(test, lambda rows: np.zeros((len(rows), 3)), [10], 0, by_gap(data, test))["slices"]
    assert found["gap up to an hour"] == {"requests": 2, "hr@10": 1.0, "ndcg@10": 1.0}, "the one title that is left"
    untimed = dataset.load(written(tmp_path, {**columns, "ts": np.arange(16)}), None, None, "roles")
    assert by_gap(untimed, requests_of(untimed, TEST, "train")) == {}


def test_titles_that_nobody_watched_belong_to_the_catalogue(tmp_path):
    titles = {"title_id": ["0", "fresh"], "name": ["Zero", "Fresh"], "genres": ["Drama|Comedy", "Drama"], "studio": ["A", "B"]}
    profiles = {"profile_id": ["0"], "age_group": [25], "postcode": ["12345"]}
    data = dataset.load(written(tmp_path, chains(20, 5, 4)), written(tmp_path, titles, "t.parquet"),
                        written(tmp_path, profiles, "p.parquet"), "leave-last-out")
    assert data.title_ids[-1] == "fresh"
    assert data.has_content
    assert data.profile_PF[0].sum() > data.profile_PF[1].sum()


@pytest.mark.parametrize(("columns", "says"), [
    ({"profile_id": [1], "title_id": [1]}, "no column ts"),
    ({"profile_id": [1, None], "title_id": [1, 2], "ts": [1, 2]}, "column profile_id has 1 nulls"),
    ({"profile_id": [1], "title_id": [1], "ts": [1]}, "no column role"),
    ({"profile_id": [1], "title_id": [1], "ts": [1], "role": ["train"]}, "no row `test`"),
    ({"profile_id": [1], "title_id": [1], "ts": ["monday"], "role": ["test"]}, "column ts is string; a number is needed"),
    ({"profile_id": [1], "title_id": [1], "ts": [float("nan")], "role": ["test"]}, "column ts has 1 nulls"),
    ({"profile_id": [1], "title_id": [1], "ts": [1], "role": ["test"], "rating": ["good"]}, "column rating is string"),
])
def test_what_cannot_be_used_is_said_with_file_and_column(tmp_path, columns, says):
    path = written(tmp_path, columns)
    with pytest.raises(UsageError, match=says) as raised:
        dataset.load(path, None, None, "roles")
    assert str(path) in str(raised.value)


def test_bad_input_ends_with_exit_code_2_and_one_line(tmp_path):
    path = tmp_path / "interactions.parquet"
    path.write_bytes(b"no Parquet")
    done = subprocess.run([sys.executable, "-m", "bench.retrieval", "--interactions", path, "--protocol", "roles", "--out", tmp_path / "r"],
                          cwd=REPOSITORY, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert str(path) in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_ids_are_in_order_of_numbers_where_they_are_numbers_and_of_text_else(tmp_path):
    columns = {"profile_id": [2, 10, 2, 10], "title_id": ["9", "10", "10", "9"], "ts": [1, 2, 3, 4], "role": ["train", "train", "test", "valid"]}
    data = dataset.load(written(tmp_path, columns), None, None, "roles")
    assert data.profile_ids == ["2", "10"]
    assert data.title_ids == ["10", "9"]
    assert [data.title_ids[title] for title in data.title] == ["9", "10", "10", "9"]
    assert [data.profile_ids[profile] for profile in data.profile] == ["2", "2", "10", "10"]


def test_days_are_times(tmp_path):
    days = pa.array([18000, 18001, 18002], pa.date32())
    data = dataset.load(written(tmp_path, {"profile_id": [1, 1, 1], "title_id": [1, 2, 3], "ts": days}), None, None, "leave-last-out")
    assert data.timed
    assert np.diff(data.seconds).tolist() == [86400.0, 86400.0]


def test_full_ranking_holds_a_bounded_number_of_scores_and_counts_the_same(tmp_path, monkeypatch):
    data = dataset.load(written(tmp_path, chains()), None, None, "leave-last-out")
    test = requests_of(data, TEST, "train")
    table_QT = np.random.default_rng(1).random((len(test), 40), np.float32)
    asked = []

    def scores(rows):
        asked.append(len(rows))
        return table_QT[rows]

    at_once = evaluate.figures(test, scores, [5, 10], 0, {})
    monkeypatch.setattr(evaluate, "SCORES_AT_ONCE", 7 * 40)
    in_parts = evaluate.figures(test, scores, [5, 10], 0, {})
    assert at_once == in_parts
    assert asked[0] == len(test)
    assert max(asked[1:]) <= 7
    assert at_once["coverage@10"] == 1.0


def test_choices_look_at_requests_from_all_over(tmp_path):
    test = requests_of(dataset.load(written(tmp_path, chains(9)), None, None, "leave-last-out"), TEST, "train")
    assert test.spread(3).tolist() == [0, 4, 8]
    assert test.spread(100).tolist() == list(range(9))


def test_histories_of_length_one(tmp_path):
    profile = np.repeat(np.arange(120), 3)
    role = np.tile(["train", "valid", "test"], 120)
    columns = {"profile_id": profile, "title_id": (profile * 7 + np.tile(np.arange(3), 120)) % 30, "ts": np.tile(np.arange(3), 120), "role": role}
    for more in ([], ["--unordered", "--fit", "train+valid"]):
        result = run(options(written(tmp_path, columns), "--protocol", "roles", "--recipe", "quick", *more))
        assert result["data"]["requests"] == {"valid": 120, "test": 120, "asking again": 0}
        assert 0.0 <= result["test"]["ndcg@10"] <= 1.0


def test_a_split_that_leaves_nothing_to_learn_from_is_said(tmp_path):
    path = written(tmp_path, {"profile_id": [1, 1], "title_id": [1, 2], "ts": [1, 2], "role": ["valid", "test"]})
    with pytest.raises(UsageError, match="no row is left to learn from"):
        both_parts(dataset.load(path, None, None, "roles"), "train", path)


@pytest.mark.parametrize("at_once", [7, 10**9])
def test_titles_are_alike_by_the_cosine_of_their_profiles(tmp_path, monkeypatch, at_once):
    monkeypatch.setattr("jobs.index.cowatch.PRODUCTS_AT_ONCE", at_once)
    monkeypatch.setattr(baselines, "PER_TITLE", 3)
    random = np.random.default_rng(0)
    columns = {"profile_id": random.integers(30, size=200), "title_id": random.integers(12, size=200), "ts": np.arange(200)}
    data = dataset.load(written(tmp_path, columns), None, None, "global-time")
    learns_E = data.role == TRAIN
    sets_PT = np.zeros((len(data.profile_ids), len(data.title_ids)))
    sets_PT[data.profile[learns_E], data.title[learns_E]] = 1.0
    length_T = np.linalg.norm(sets_PT, axis=0)
    cosine_TT = sets_PT.T @ sets_PT / (np.outer(length_T, length_T) + baselines.KNN_SHRINKAGE)
    np.fill_diagonal(cosine_TT, 0.0)
    found_TT = baselines.cosine(data, learns_E).toarray()
    assert found_TT[found_TT > 0] == pytest.approx(cosine_TT[found_TT > 0], abs=1e-6)
    assert np.sort(found_TT)[:, -3:] == pytest.approx(np.sort(cosine_TT)[:, -3:], abs=1e-6)
    assert ((found_TT > 0).sum(1) <= 3).all()


def test_a_long_set_votes_whole_and_a_long_history_with_its_newest_titles(tmp_path):
    titles = 300
    columns = {"profile_id": np.zeros(titles, int), "title_id": np.arange(titles), "ts": np.arange(titles)}
    data = dataset.load(written(tmp_path, columns), None, None, "leave-last-out")
    test = requests_of(data, TEST, "train")
    first_TT = csr_matrix((np.ones(1, np.float32), ([0], [5])), shape=(titles, titles))
    assert baselines.cowatch(data, test, first_TT, ordered=False)(np.arange(1))[0, 5] == 1.0
    assert baselines.cowatch(data, test, first_TT, ordered=True)(np.arange(1)).sum() == 0.0
    last_TT = csr_matrix((np.ones(2, np.float32), ([titles - 2, titles - 3], [5, 6])), shape=(titles, titles))
    assert baselines.knn(data, test, last_TT, ordered=True)(np.arange(1))[0, [5, 6]].tolist() == [1.0, 0.5]


def test_each_system_is_asked_once_for_all_weightings(tmp_path):
    valid = requests_of(dataset.load(written(tmp_path, chains()), None, None, "leave-last-out"), VALID, "train")
    asked = []
    score_QT = np.random.default_rng(0).random((len(valid), 40))
    made = {name: lambda rows, name=name: asked.append(name) or score_QT[rows] for name in ("towers", "knn")}
    several = blends(made, [{"towers": 1.0}, {"towers": 1.0, "knn": 1.0}, {"knn": 2.0}], valid)
    one, both, twice = several(np.arange(5))
    assert sorted(asked) == ["knn", "towers"]
    assert both == pytest.approx(2 * one)
    assert twice == pytest.approx(2 * one)


@pytest.mark.parametrize(("asked", "share"), [("rare", 0.95), ("common", 0.0)])
def test_validation_says_how_a_catalogue_beyond_one_matrix_is_modelled(tmp_path, monkeypatch, asked, share):
    """Rare titles come in pairs, of which a matrix of the common ones says nothing; for common ones rare ones are noise."""
    random = np.random.default_rng(2)
    first = np.arange(400) % 40
    common = np.argsort(random.random((400, 8)) + 2 * ((first[:, None] >> np.arange(8) % 3) & 1), axis=1)[:, :3]
    title = np.concatenate([first[:, None], 40 + first[:, None], 100 + common], axis=1)
    role = np.full(title.shape, "train", dtype=object)
    role[200:, 1 if asked == "rare" else 4] = "valid"
    role[:, 3] = "test"
    columns = {"profile_id": np.repeat(np.arange(400), 5), "title_id": title.ravel(), "ts": np.tile(np.arange(5), 400), "role": list(role.ravel())}
    data = dataset.load(written(tmp_path, columns), None, None, "roles")
    monkeypatch.setattr(baselines, "COWATCH_TITLES", 8)
    assert baselines.cowatch_config(data, requests_of(data, VALID, "train"), ordered=False).cowatch_share == share
    monkeypatch.setattr(baselines, "COWATCH_TITLES", 88)
    assert baselines.cowatch_config(data, requests_of(data, VALID, "train"), ordered=False).cowatch_share == 0.95

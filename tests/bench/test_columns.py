"""Files as people have them: what is read of odd columns, and what is refused with file and column named."""

import datetime

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bench.ranking.block import before_ranker
from bench.retrieval import data as dataset
from bench.retrieval.__main__ import parser
from bench.retrieval.arguments import carry_out
from bench.retrieval.requests import both_parts, by_gap, requests_of
from contracts.errors import UsageError

PLAYS = {"profile_id": [1, 1, 1, 2, 2, 2], "title_id": [10, 11, 12, 12, 11, 10], "ts": [1, 2, 3, 1, 2, 3]}


def written(folder, columns, name="interactions"):
    pq.write_table(columns if isinstance(columns, pa.Table) else pa.table(columns), folder / f"{name}.parquet")
    return folder / f"{name}.parquet"


def loaded(folder, plays=PLAYS, titles=None, profiles=None, protocol="leave-last-out"):
    beside = [given and written(folder, given, name) for given, name in ((titles, "titles"), (profiles, "profiles"))]
    return dataset.load(written(folder, plays), *beside, protocol)


def test_ids_with_gaps_beside_them_are_the_same_ids(tmp_path):
    """pandas makes floats of them."""
    data = loaded(tmp_path, titles={"title_id": [10.0, 11.0, 12.0], "name": ["a", "b", "c"]}, profiles={"profile_id": [1.0, 2.0], "sex": ["f", "m"]})
    assert data.title_ids == ["10", "11", "12"]
    assert [c.name for c in data.contents] == ["a", "b", "c"]
    assert data.people.keys() == {"1", "2"}


@pytest.mark.parametrize("name", PLAYS)
@pytest.mark.parametrize("other", [2.0, 2.5])
def test_what_a_row_needs_is_known(tmp_path, name, other):
    with pytest.raises(UsageError, match=f"column {name} has 1 nulls"):
        loaded(tmp_path, {**PLAYS, name: [1.0, float("nan"), other, other, 4.0, 5.0]})


@pytest.mark.parametrize("name", ["titles", "profiles"])
def test_a_file_that_shares_no_id_is_refused(tmp_path, name):
    with pytest.raises(UsageError, match=rf"{name}.parquet: no {name[:-1]}_id .*'x'.* is among those of .*interactions"):
        loaded(tmp_path, **{name: {f"{name[:-1]}_id": ["x", "y"]}})


def test_categories_are_their_values_and_unused_ones_are_nobody(tmp_path):
    def category(values):
        return pa.DictionaryArray.from_arrays(pa.array(values, pa.int32()), pa.array(["unused", "a", "b", "c"]))

    data = loaded(tmp_path, {**PLAYS, "title_id": category([1, 2, 3, 3, 2, 1])}, profiles={"profile_id": [1, 2], "sex": category([1, 2])})
    assert data.title_ids == ["a", "b", "c"]
    assert [data.people[p].attributes for p in ("1", "2")] == [["sex=a"], ["sex=b"]]


def test_what_is_unknown_of_a_title_or_profile_says_nothing(tmp_path):
    titles = {"title_id": [10, 11, 12], "runtime_minutes": [90.0, float("nan"), None], "genres": [["a", None], None, ["b"]], "credits": ["x|y", None, "z"],
              "year": [1995.0, None, 2001.0]}
    profiles = {"profile_id": [1, 2], "maturity_limit": [float("nan"), 12.0], "age": [25.0, None], "attributes": ["m|x", None]}
    data = loaded(tmp_path, titles=titles, profiles=profiles)
    assert [c.runtime_minutes for c in data.contents] == [90.0, None, None]
    assert [list(c.genres) for c in data.contents] == [["a"], [], ["b"]]
    assert [list(c.credits) for c in data.contents] == [["x", "y"], [], ["z"]]
    assert [c.year for c in data.contents] == [1995, None, 2001]
    assert data.people["1"].attributes == ["m", "x", "age=25"]
    assert data.people["2"].maturity_limit == 12
    assert np.isfinite(data.profile_PF).all()


@pytest.mark.parametrize(("name", "column", "values", "says"), [
    ("titles", "year", ["1995", "1996", "1997"], "column year is string; a number is needed"),
    ("titles", "maturity", ["PG", "R", "G"], "column maturity is string"),
    ("titles", "genres", [1, 2, 3], "column genres is int64; a list"),
    ("titles", "runtime_minutes", [float("inf"), 1.5, 2.0], "column runtime_minutes has 1 values that are no finite number"),
    ("profiles", "maturity_limit", ["PG", "R"], "column maturity_limit is string"),
    ("profiles", "is_kids", ["false", "true"], "column is_kids is string; true or false"),
    ("profiles", "preferred_genres", [1, 2], "column preferred_genres is int64"),
])
def test_columns_of_another_kind_are_named(tmp_path, name, column, values, says):
    key = f"{name[:-1]}_id"
    ids = {"title_id": [10, 11, 12], "profile_id": [1, 2]}[key]
    with pytest.raises(UsageError, match=f"{name}.parquet: {says}"):
        loaded(tmp_path, **{name: {key: ids, column: values}})


def test_ratings_are_scaled_without_the_test_rows_and_none_are_needed(tmp_path):
    assert np.nanmax(loaded(tmp_path, {**PLAYS, "rating": [4, 2, 50, 1, 2, 3]}).rating[[0, 1, 3, 4]]) == 5.0
    assert np.isnan(loaded(tmp_path, {**PLAYS, "rating": pa.nulls(6)}).rating).all()
    with pytest.raises(UsageError, match="rating has 1 values that are no finite number"):
        loaded(tmp_path, {**PLAYS, "rating": [1.0, float("-inf"), 2.0, 3.0, 4.0, 5.0]})


def test_a_test_row_does_not_say_whether_times_are_seconds(tmp_path):
    day = 86_400.0
    plays = {**PLAYS, "ts": [1e9, 1e9 + day, 1e15, 1e9, 1e9 + day, 1e9 + 2 * day]}
    assert loaded(tmp_path, plays).timed
    assert not loaded(tmp_path, {**plays, "ts": [1.0, 1e9, 1e9 + day, 1e9, 1e9 + day, 1e9 + 2 * day]}).timed


def test_a_split_that_asks_before_a_history_is_in_no_slice_of_gaps(tmp_path):
    old, new = datetime.datetime(2001, 1, 1), datetime.datetime(2004, 1, 1)
    data = loaded(tmp_path, {"profile_id": [1, 1, 1], "title_id": [1, 2, 3], "ts": [new, new, old], "role": ["train", "valid", "test"]}, protocol="roles")
    assert by_gap(data, requests_of(data, dataset.TEST, "train")) == {}


def test_roles_in_any_letters_and_others_counted(tmp_path):
    data = loaded(tmp_path, {**PLAYS, "role": ["TRAIN", "Valid", "test", "rare", None, "test"]}, protocol="roles")
    assert data.shape()["rows_left_out"] == 2
    assert data.role.tolist() == [dataset.TRAIN, dataset.VALID, dataset.TEST, dataset.TEST]


def test_a_title_asked_for_again_has_its_history_as_rivals(tmp_path):
    plays = {"profile_id": [1] * 5 + [2] * 5, "title_id": [1, 2, 3, 4, 2, 1, 2, 3, 4, 5], "ts": [*range(5)] * 2}
    path = written(tmp_path, plays)
    data = dataset.load(path, None, None, "leave-last-out")
    test = both_parts(data, "train", path)[1]
    seen = test.seen(np.arange(2))
    assert set(seen.request.tolist()) == {1}, "the first asks for its second title again: none of its history is left out"
    assert sorted(seen.title.tolist()) == [0, 1, 2, 3]
    assert test.asking_again() == 1


def test_a_ranker_without_a_row_of_its_own_is_said(tmp_path):
    with pytest.raises(UsageError, match="no profile has two training rows"):
        before_ranker(loaded(tmp_path), 100, 7)


@pytest.mark.parametrize("more", [["--seed", "-1"], ["--seed", str(2**32)], ["--threads", "0"], ["--k", "0"]])
def test_numbers_that_cannot_be_are_refused_at_once(more, capsys):
    with pytest.raises(SystemExit) as ended:
        parser().parse_args(["--interactions", "x", "--protocol", "roles", "--out", "y", *more])
    assert ended.value.code == 2
    assert more[1] in capsys.readouterr().err


def test_a_result_that_cannot_be_written_is_said_before_the_work(tmp_path, capsys):
    options = parser().parse_args(["--interactions", "x", "--protocol", "roles", "--out", str(tmp_path)])
    with pytest.raises(SystemExit):
        carry_out(options, "bench.retrieval", lambda _: pytest.fail("it worked"), str)
    assert "a folder" in capsys.readouterr().err

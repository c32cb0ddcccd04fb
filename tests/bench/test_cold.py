"""Cold titles on made-up interactions in which content says all that there is to know."""

import argparse
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bench import cold
from bench.retrieval import data as dataset
from bench.retrieval.data import TEST, VALID
from contracts.errors import UsageError

TASTES, TITLES = 8, 400


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Profiles play titles of their taste alone; a title's genre is its taste."""
    folder, random = tmp_path_factory.mktemp("cold"), np.random.default_rng(0)
    title = np.concatenate([random.permutation(np.arange(p % TASTES, TITLES, TASTES))[:20] for p in range(300)])
    pq.write_table(pa.table({"profile_id": np.repeat(np.arange(300), 20), "title_id": title, "ts": np.tile(np.arange(20), 300)}), folder / "i")
    pq.write_table(pa.table({"title_id": np.arange(TITLES), "genres": [f"genre {t % TASTES}" for t in range(TITLES)]}), folder / "t")
    return folder / "i", folder / "t"


def options(files, *more) -> argparse.Namespace:
    interactions, titles = map(str, files)
    return cold.parser().parse_args(["--interactions", interactions, "--titles", titles, "--protocol", "leave-last-out", "--recipe", "pooled",
                                     "--share", "0.2", "--seeds", "3", "--out", "unused", *more])


def test_content_finds_titles_that_were_never_trained(files):
    result = cold.run(options(files))
    towers, random, oracle = (result["mean"][name]["hr@10"] for name in ("towers", "random", "oracle popularity"))
    assert result["splits"][0]["titles"] == 80
    assert towers > 0.8, "about ten of the eighty are of the profile's taste"
    assert random == pytest.approx(10 / 80, abs=0.05)
    assert random < oracle < towers


def test_requests_are_the_first_plays_of_held_out_titles_in_the_part_asked_for(files):
    data = dataset.load(*files, None, "leave-last-out")
    cold_T = cold.held_out(data, 0.2, seed=3)
    for on, role in (("valid", VALID), ("test", TEST)):
        asked = cold.requests(data, cold_T, on)
        rows = asked.first + asked.length
        assert len(asked) > 20
        assert cold_T[data.title[rows]].all()
        assert (data.role[rows] == role).all()
        assert len(np.unique(data.profile[rows])) == len(rows)
        for first, row in zip(asked.first, rows):
            between = np.arange(first, row)
            assert not (cold_T[data.title[between]] & (data.role[between] == role)).any()


def test_a_title_played_before_is_not_asked_for(files):
    data = dataset.load(*files, None, "leave-last-out")
    cold_T = cold.held_out(data, 0.2, seed=3)
    asked = cold.requests(data, cold_T, "valid")
    title, row = data.title.copy(), asked.first[0] + asked.length[0]
    title[asked.first[0]] = title[row]
    again = cold.requests(replace(data, title=title), cold_T, "valid")
    assert (again.first + again.length).tolist() == (asked.first + asked.length).tolist()[1:]


def test_what_was_seen_does_not_compete(files):
    data = dataset.load(*files, None, "leave-last-out")
    cold_T = cold.held_out(data, 0.2, seed=3)
    asked = cold.requests(data, cold_T, "valid")
    scores = np.zeros((len(asked), cold_T.sum()), np.float32)
    column_T = np.cumsum(cold_T) - 1
    for row, (first, length) in enumerate(zip(asked.first, asked.length)):
        seen = data.title[first : first + length]
        scores[row, column_T[seen[cold_T[seen]]]] = 9.0
        scores[row, column_T[data.title[first + length]]] = 1.0
    assert cold.figures(data, cold_T, asked, scores, 0)["mrr"] == 1.0


@pytest.mark.parametrize(("more", "says"), [(("--share", "1.5"), "--share 1.5"), (("--share", "0.0001"), "1 titles held out")])
def test_what_cannot_be_asked_is_said(files, more, says):
    with pytest.raises(UsageError, match=says):
        cold.run(options(files, *more))

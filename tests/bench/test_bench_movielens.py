"""MovieLens' own files become what the benchmarks read."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bench.retrieval import data as dataset
from bench.retrieval import movielens
from bench.retrieval.data import TEST, TRAIN, VALID


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "ratings.dat").write_text("1::10::5::978300100\n1::20::3::978300050\n1::30::4::978300200\n2::20::1::978300300\n2::40::1::978300300\n")
    (tmp_path / "movies.dat").write_text("10::Matrix, The (1999)::Action\n20::Heat (1995)::Crime\n30::Up (2009)::Animation\n40::Rare (1990)::Drama\n")
    (tmp_path / "users.dat").write_text("1::F::25::4::00000\n2::M::35::7::11111\n")
    (tmp_path / "dbpedia_abstracts.json").write_text(json.dumps({"10": "A hacker learns the truth."}))
    return tmp_path


def test_the_published_split_of_ml_1m_with_times_that_follow_its_order(folder):
    splits, out = folder / "splits.parquet", folder / "out"
    out.mkdir()
    pq.write_table(pa.table({  # the published order puts 10 before 20, whose time is earlier; 40 is too rare for the split
        "user": [1, 1, 1, 2, 2], "item": [20, 10, 30, 20, 40], "rating": [3, 5, 4, 1, 1],
        "ts_est": [978300050, 978300100, 978300200, 978300300, 978300300], "sas_pos": [1.0, 0.0, 2.0, 0.0, None],
        "sas_role": ["valid", "train", "test", "train", None]}), splits)
    movielens.ml_1m(folder, splits, out)
    ids = dataset.load(out / "ids.parquet", None, None, "roles")
    assert [(ids.title_ids[t], role) for t, role in zip(ids.title, ids.role)] == [("10", TRAIN), ("20", VALID), ("30", TEST), ("20", TRAIN)]
    assert not ids.timed
    full = dataset.load(out / "full.parquet", out / "titles.parquet", out / "profiles.parquet", "roles")
    assert full.timed
    assert full.seconds.tolist() == [978300100, 978300100, 978300200, 978300300]
    assert full.rating.tolist() == [5, 3, 4, 1]
    assert [(c.title_id, c.name, c.synopsis) for c in full.contents] == [
        ("10", "The Matrix", "A hacker learns the truth."), ("20", "Heat", ""), ("30", "Up", "")]
    assert full.people["1"].attributes == ["gender=F", "age=25", "occupation=4"]


def test_ml_latest_small_needs_its_folder(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["movielens", "--small", str(tmp_path / "nowhere"), "--out", str(tmp_path)])
    with pytest.raises(SystemExit, match="no such folder"):
        movielens.main()

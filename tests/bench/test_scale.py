"""The scale benchmark on a small service, run as its user runs it."""

import json
import subprocess
import sys

import numpy as np
import pytest

from bench.scale.service import Catalogue, plays, title_id
from contracts.settings import REPOSITORY
from jobs.towers.export import PARITY


def test_the_command_trains_embeds_and_asks(tmp_path):
    done = subprocess.run([sys.executable, "-m", "bench.scale", "--titles", "22000", "--interactions", "4000", "--threads", "1",
                           "--recipe", "nano", "--out", tmp_path / "result.json"], cwd=REPOSITORY, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["positives_per_second"] > 0
    assert result["peak_memory_mib"] > 100
    assert result["seconds"].keys() == result["cpu_seconds"].keys() == {"data", "prepare", "train", "export", "embed"}
    assert {"nano", "pooled", "movielens"} <= result["onnx"].keys()
    assert all(0 <= figures["parity"] <= PARITY and figures["milliseconds"] > 0 for figures in result["onnx"].values())
    assert 0 < result["configuration"]["id_titles"] < 22_000


def test_a_service_of_no_titles_is_refused_in_one_line(tmp_path):
    done = subprocess.run([sys.executable, "-m", "bench.scale", "--titles", "0", "--out", tmp_path / "r"], cwd=REPOSITORY,
                          capture_output=True, text=True, timeout=120)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "--titles" in done.stderr


def test_plays_are_sorted_skewed_and_follow_tastes():
    made, profiles = plays(1000, 20_000, seed=3)
    again, _ = plays(1000, 20_000, seed=3)
    assert np.array_equal(made.title, again.title)
    assert 20_000 / profiles == pytest.approx(5, rel=0.1)
    assert np.array_equal(np.lexsort((made.time, made.profile)), np.arange(len(made)))
    counts = np.bincount(made.title, minlength=1000)
    assert counts[:100].sum() > 3 * counts[500:600].sum()
    assert np.mean(made.title % 64 == made.profile % 64) > 0.6


def test_a_catalogue_is_the_same_row_by_row_and_in_one():
    catalogue = Catalogue(50, seed=1)
    assert catalogue[3:6] == [catalogue[3], catalogue[4], catalogue[5]]
    assert [content.title_id for content in catalogue] == [title_id(row) for row in range(50)]
    assert catalogue[3].genres != catalogue[4].genres, "another taste"

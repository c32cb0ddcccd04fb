"""`marquee towers` on a real little lake."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from mlflow import MlflowClient

from contracts.errors import UsageError
from contracts.release import ITEM_TOWER, QUERY_TOWER
from contracts.split import TimeSplit
from jobs.towers import train
from jobs.towers.dataset import Plays
from tests.jobs.towers import little_lake
from tests.jobs.towers.little_lake import CONFIG, LATE, RELEASE, UNSEEN


@pytest.fixture
def home(towers_home):
    return towers_home[0]


@pytest.fixture
def result(towers_home):
    return towers_home[1]


def test_only_what_was_known_before_the_retrievers_end_trains(home, result):
    """Plays of the last days, plays known too late, titles and versions to come: none of them is there."""
    assert result["plays"] == little_lake.PROFILES * 9
    assert result["titles"] == little_lake.TITLES + 1
    data, _ = train.training_data(home, train.read_provenance(home.releases / RELEASE), CONFIG)
    assert UNSEEN not in data.title_ids
    assert LATE in data.title_ids
    assert data.title_ids[data.plays.title.max()] != LATE
    assert data.id_index(1)[data.title_ids.index(LATE)] == 0
    assert (data.plays.known >= data.plays.time).all()


def test_it_learns_more_than_popularity_and_says_so(result):
    assert result["labels"] > 400
    assert result["validation_labels"] > 50
    assert result["recall"] > 2 * result["popularity_recall"]
    assert max(result["parity"].values()) <= 1e-5
    json.dumps(result, allow_nan=False)


def test_mlflow_has_parameters_curve_tag_and_files(home, result):
    client = MlflowClient(home.mlflow_address())
    run = client.get_run(result["mlflow_run"])
    assert run.info.status == "FINISHED"
    assert run.data.params["history_length"] == "8"
    assert run.data.tags["lake_tag"] == "nightly_2026-03-22"
    assert run.data.tags["release_id"] == RELEASE
    assert [point.step for point in client.get_metric_history(run.info.run_id, "recall")] == [1, 2, 3, 4, 5, 6]
    assert {file.path for file in client.list_artifacts(run.info.run_id)} == {QUERY_TOWER, ITEM_TOWER}
    assert run.info.artifact_uri.startswith(home.home.as_uri())


def test_a_rerun_finds_its_work_and_a_forced_one_makes_equal_bytes(home, result):
    folder = home.releases / RELEASE
    before = {name: (folder / name).read_bytes() for name in (QUERY_TOWER, ITEM_TOWER)}
    stamps = {name: (folder / name).stat().st_mtime_ns for name in before}
    again = train.run(home, RELEASE, CONFIG)
    assert again["skipped"]
    assert again["recall"] == result["recall"]
    assert {name: (folder / name).stat().st_mtime_ns for name in before} == stamps
    (folder / ITEM_TOWER).write_bytes(b"half a file")  # a damaged file is made again, without being asked to
    assert "skipped" not in train.run(home, RELEASE, CONFIG)
    assert {name: (folder / name).read_bytes() for name in before} == before


def test_a_killed_training_goes_on_to_the_same_bytes(home, result, monkeypatch):
    folder, checkpoint = home.releases / RELEASE, home.work / RELEASE / train.CHECKPOINT
    before = {name: (folder / name).read_bytes() for name in (QUERY_TOWER, ITEM_TOWER)}
    (folder / ITEM_TOWER).unlink()
    begun = []

    def watch(steps, what):
        begun.append(what)
        if begun == ["epoch 1/6", "epoch 2/6", "epoch 3/6"]:
            raise KeyboardInterrupt
        return steps

    monkeypatch.setattr(train, "_watch", watch)
    with pytest.raises(KeyboardInterrupt):
        train.run(home, RELEASE, CONFIG)
    assert checkpoint.is_file()
    train.run(home, RELEASE, CONFIG)
    assert begun[3:] == ["epoch 3/6", "epoch 4/6", "epoch 5/6", "epoch 6/6"]
    assert {name: (folder / name).read_bytes() for name in before} == before
    assert not checkpoint.exists()


def test_another_configuration_does_not_pass_for_this_one(home, result):
    marker = home.work / RELEASE / train.MARKER
    assert train._finished(marker, home.releases / RELEASE, CONFIG)
    assert train._finished(marker, home.releases / RELEASE, replace(CONFIG, epochs=7)) is None
    marker.write_text("{half")
    assert train._finished(marker, home.releases / RELEASE, CONFIG) is None


@pytest.mark.parametrize(("days_of_plays", "share"), [((0, 30), 1 / 30), ((29.5, 30), 0.2), ((0, 20), 0.02)])
def test_what_is_held_out_is_the_last_block_within_bounds(days_of_plays, share):
    """A plain month: its last day; a history of half a day: a fifth of it; nothing in the last block: a fiftieth."""
    end = datetime(2026, 3, 31, tzinfo=UTC)
    split = TimeSplit(end, end + timedelta(days=1), end + timedelta(days=2))
    time = ((end - timedelta(days=30)).timestamp() + np.linspace(*days_of_plays, 3000, endpoint=False) * 86400) * 1e6
    n = len(time)
    plays = Plays(np.zeros(n, int), np.zeros(n, int), time.astype(np.int64), time.astype(np.int64), np.full(n, np.nan),
                  np.full(n, np.nan), np.ones(n, bool), np.zeros(n, int))
    assert (plays.time >= train.holdout_start(plays, split)).mean() == pytest.approx(share, abs=0.002)


def test_a_release_that_was_not_begun_is_wrong_use(home):
    with pytest.raises(UsageError, match="run `marquee release begin"):
        train.run(home, "2026-03-22-nothing", CONFIG)


def test_on_the_nano_world_learning_beats_popularity(nano):
    said = nano.reach("towers").done["towers"]
    assert said["validation_labels"] > 50
    assert said["recall"] > 1.2 * said["popularity_recall"]

"""The faults that need no Spark and no server of their own, put into copies of a nano night; the others: bench/faults."""

import json
import shutil

import pytest

from bench.faults import table
from bench.faults.faults import FAULTS
from bench.faults.town import STEPS, Town
from contracts.errors import MarqueeError
from jobs.release import seal
from jobs.sources import check

SEALED = [fault for fault in FAULTS if fault.after == "ranker" and not fault.index and "of another run" not in fault.name]
REFUSED_AT_ONCE = ("schema change: a required column", "schema change: times", "a table that the marker names", "a file was cut off",
                   "truncated partition: fewer", "an empty day")
LANDED = [fault for fault in FAULTS if fault.name.startswith(REFUSED_AT_ONCE)]


@pytest.fixture
def built(nano, tmp_path) -> Town:
    """The files of a built release in a home of their own, beside the collection that they belong to."""
    nano.reach("seal")
    town = Town(tmp_path)
    town.port = nano.settings.milvus_port
    for part in ("releases", "work"):
        shutil.copytree(nano.home / part / nano.release_id, town.home / part / nano.release_id)
    for path in nano.home.glob("ledger.db*"):
        shutil.copy(path, town.home)
    town.say(ds=nano.ds, release=nano.release_id, live="2026-01-01-0000000000")
    return town


@pytest.fixture
def day(nano, tmp_path) -> Town:
    nano.reach("land")
    town = Town(tmp_path)
    shutil.copytree(nano.home / "landing" / nano.ds, town.home / "landing" / nano.ds)
    town.say(ds=nano.ds)
    return town


def test_the_good_night_is_let_through(built):
    assert seal.run(built.settings, built.night["release"])["titles"] > 0


@pytest.mark.parametrize("fault", SEALED, ids=lambda fault: fault.name)
def test_a_broken_release_is_not_sealed(built, fault):
    fault.put_in(built)
    with pytest.raises(MarqueeError) as stopped:
        seal.run(built.settings, built.night["release"])
    assert fault.named(str(stopped.value)), stopped.value


@pytest.mark.parametrize("fault", LANDED, ids=lambda fault: fault.name)
def test_a_broken_day_is_refused_before_anything_reads_it(day, fault):
    assert check.check(day.landed).ok
    fault.put_in(day)
    report = check.check(day.landed)
    assert not report.ok
    assert fault.named(report.as_text()), report.as_text()


def test_the_faults_are_forty_and_more_with_names_of_their_own():
    assert len({fault.name for fault in FAULTS}) == len(FAULTS) >= 40
    assert {fault.after for fault in FAULTS} <= set(STEPS)
    assert len(LANDED) == len(REFUSED_AT_ONCE)


def test_the_table_says_what_was_not_stopped():
    lines = [{"kind": "fault", "name": "a", "after": "seal", "stopped": False, "by": "", "words": "", "named": False},
             {"kind": "fault", "name": "b", "after": "land", "stopped": True, "by": "check", "words": "x | y", "named": True},
             {"kind": "clean", "name": "night 1", "stopped": False, "by": "", "words": ""}]
    said = table.rendered([json.loads(json.dumps(line)) for line in lines])
    assert "2 faults run, 1 stopped, 1 by a check that names the cause; 0 alarms in 1 clean nights." in said
    assert "| a | seal | **nothing** |" in said
    assert "x \\| y" in said

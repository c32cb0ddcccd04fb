"""Nights on which nothing ran: the next one takes them all, in order, and trains once, on the newest."""

import json
from datetime import date, datetime, timedelta

from contracts.landing import FORMAT_VERSION, MARKER, list_intervals
from contracts.settings import Settings
from contracts.split import split_for
from jobs.lake import ingest, raw

DAYS = [date(2026, 3, 1) + timedelta(days=i) for i in range(5)]


def landed(settings: Settings) -> list[ingest.Landed]:
    for day in DAYS:
        folder = settings.landing / str(day)
        folder.mkdir(parents=True, exist_ok=True)
        marker = {"format_version": FORMAT_VERSION, "source": "test", "first": str(day), "last": str(day), "tables": {}}
        (folder / MARKER).write_text(json.dumps(marker))
        (folder / "plays.jsonl").write_text(json.dumps({"event_id": str(day)}) + "\n")
    return [ingest._inspect(interval, folder) for interval, folder in list_intervals(settings.landing)]


def published(one: ingest.Landed, sequence: int) -> raw.Ingest:
    return raw.Ingest(sequence, one.interval.name, one.interval.first, one.interval.last, one.source, one.content_sha256, {}, {}, None,
                      datetime(2026, 3, 1))


def test_three_missed_nights_are_taken_in_order(tmp_path):
    found = landed(Settings(_env_file=None, home=tmp_path))
    done = [published(one, n) for n, one in enumerate(found[:2], 1)]
    assert [one.interval.last for one in ingest._unpublished(found, done)] == DAYS[2:]
    assert ingest._unpublished(found, done + [published(one, n) for n, one in enumerate(found[2:], 3)]) == []


def test_the_newest_night_is_judged_on_its_own_day_however_many_were_missed():
    split = split_for(DAYS[-1], DAYS[-1])
    assert split.block == timedelta(days=1), "a gap does not widen the blocks"
    assert (split.ranker_end.date(), split.counts_day) == (DAYS[-1], DAYS[2])

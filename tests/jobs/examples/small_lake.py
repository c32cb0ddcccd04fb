"""A lake of a few dozen rows, made by hand: the marts, tagged, with every awkward case of time in it.

Night D = 2026-03-10; the judge's block is that day, the ranker's the day before.
"""

import json
import random
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pyarrow as pa

from contracts.marts import MART_COLUMNS, MARTS, TAGGED, tag_name
from contracts.settings import Settings
from contracts.tags import TableVersion, TagRecord, tag_file
from jobs.lake import read

DS = "2026-03-10"
DAY = datetime(2026, 3, 10, tzinfo=UTC)
HOUR, MICRO = timedelta(hours=1), timedelta(microseconds=1)
ARROW = {
    "string": pa.string(), "timestamp": pa.timestamp("us", tz="UTC"), "date": pa.date32(), "int": pa.int32(), "double": pa.float64(),
    "boolean": pa.bool_(), "array<string>": pa.list_(pa.string()), "array<double>": pa.list_(pa.float64()),
}
CANARY = 1_000_000
"""Planted counts are this and above; honest ones are far below."""


@dataclass
class SmallLake:
    """Rows by mart, as dicts that may leave columns out (null)."""

    settings: Settings
    has_impressions: bool = True
    rows: dict[str, list[dict]] = field(default_factory=lambda: {mart: [] for mart in MART_COLUMNS})

    def add(self, mart: str, **values) -> None:
        unknown = set(values) - set(MART_COLUMNS[mart])
        assert not unknown, f"{mart} has no {unknown}"
        self.rows[mart].append({column: values.get(column) for column in MART_COLUMNS[mart]})

    def declared(self, profile_id: str, known_at: datetime, **values) -> None:
        facts = {"household_id": "h", "market": "DE", "is_kids": False, "maturity_limit": 18, "language": "de",
                 "preferred_genres": ["drama"], "attributes": []}
        self.add("dim_profile_version", profile_id=profile_id, valid_from=known_at, known_at=known_at, **(facts | values))

    def snapshot(self, mart: str, key: str, feature_time: datetime, known_at: datetime | None = None, **values) -> None:
        name = "profile_id" if mart == "feat_profile_daily" else "title_id"
        self.add(mart, **{name: key}, snapshot_day=(feature_time - timedelta(days=1)).date(), feature_time=feature_time,
                 known_at=known_at or feature_time, **values)

    def play(self, event_id: str, profile_id: str, title_id: str, event_time: datetime, completion: float | None = 1.0, **values) -> None:
        self.add("fct_play", event_id=event_id, profile_id=profile_id, title_id=title_id, event_time=event_time,
                 known_at=values.pop("known_at", event_time + HOUR), event_day=event_time.date(), completion=completion,
                 engaged=completion is None or completion >= 0.5, **values)

    def slate(self, slate_id: str, profile_id: str, event_time: datetime, titles: dict[str, int], **values) -> None:
        """`titles`: title → engagement, in the order of their places; shown a second apart."""
        for place, (title_id, engagement) in enumerate(titles.items(), 1):
            moment = event_time + timedelta(seconds=place - 1)
            self.add("fct_impression", event_id=f"{slate_id}-{place}", slate_id=slate_id, profile_id=profile_id,
                     title_id=title_id, position=place, propensity=0.5, engagement=engagement, event_time=moment,
                     known_at=moment + HOUR, event_day=moment.date(), device="tv", surface="home", **values)

    def write(self) -> TagRecord:
        """Writes the marts, tags them, writes the record; returns it. By pyiceberg: a second instead of Spark's twenty."""
        lake = read.catalog(self.settings)
        lake.create_namespace(MARTS)
        for mart, columns in MART_COLUMNS.items():
            schema = pa.schema([pa.field(name, ARROW[spark_type]) for name, spark_type in columns.items()])
            table = lake.create_table(f"{MARTS}.{mart}", schema)
            table.append(pa.Table.from_pylist(self.rows[mart], schema))
            table.manage_snapshots().create_tag(table.current_snapshot().snapshot_id, tag_name(DS)).commit()
        record = TagRecord(ds=DS, first=date.fromisoformat(DS), last=date.fromisoformat(DS), has_impressions=self.has_impressions,
                           tables={f"marts.{mart}": TableVersion(snapshot_id=0, rows=len(self.rows[mart]), logical_hash="") for mart in TAGGED})
        folder = self.settings.lake / "tags"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / tag_file(tag_name(DS))).write_text(json.dumps(record.model_dump(mode="json")))
        return record


def home(folder: Path) -> Settings:
    return Settings(_env_file=None, home=folder, recipe="nano", min_free_gb=0.0)


def filled(lake: SmallLake, seed: int = 3) -> SmallLake:
    """Random but honest rows: late plays, late snapshots, changed declarations, aged-out profiles, equal times."""
    rng = random.Random(seed)
    profiles, titles = [f"p{i}" for i in range(14)], [f"t{i}" for i in range(9)]
    for number, profile_id in enumerate(profiles):
        lake.declared(profile_id, DAY - timedelta(days=40), maturity_limit=number, market=rng.choice(["DE", "US"]))
        lake.add("feat_profile_history", profile_id=profile_id, feature_time=DAY, known_at=DAY, history_title_ids=["t1", "t2"],
                 history_times=[1.0, 2.0], history_completion=[0.5, None], history_rating=[None, 4.0], watched_title_ids=["t1"])
        if number % 3 == 0:
            lake.declared(profile_id, DAY - rng.random() * timedelta(days=2), language="en", is_kids=True)
        # p0, p7: aged out, save on the last possible day
        for days in range(33, 60, 9) if number % 7 == 0 else rng.sample(range(0, 31), 9):
            midnight = DAY - timedelta(days=days)
            lake.snapshot("feat_profile_daily", profile_id, midnight, midnight + rng.choice([0, 0, 5, 30]) * HOUR,
                          plays_7d=rng.randrange(50), plays_30d=rng.randrange(90), completion_30d=rng.choice([None, rng.random()]),
                          top_genres_30d=["drama", "crime"], top_genre_shares_30d=[rng.random(), 0.1], last_play_at=midnight - HOUR)
    for title_id in titles:
        for days in rng.sample(range(0, 35), 20):
            midnight = DAY - timedelta(days=days)
            lake.snapshot("feat_title_daily", title_id, midnight, midnight + rng.choice([0, 0, 7, 50]) * HOUR,
                          plays_1d=rng.randrange(50), rating_mean=rng.choice([None, 3.5]))
    for number in range(160):
        moment = DAY + timedelta(days=1) - rng.choice([rng.random() * timedelta(days=4), timedelta(days=rng.randrange(1, 4))])
        profile_id, shown = rng.choice(profiles), rng.sample(titles, 4)
        engagement = [rng.choice([0, 0, 0, 1, 2, 3]) if rng.random() < 0.6 else 0 for _ in shown]
        lake.slate(f"s{number:03}", profile_id, moment, dict(zip(shown, engagement, strict=True)))
        for title_id, strength in zip(shown, engagement, strict=True):
            if strength:
                lake.play(f"e{number:03}-{title_id}", profile_id, title_id, moment + rng.random() * HOUR,
                          completion=rng.choice([None, 0.95]) if strength == 3 else {1: 0.2, 2: 0.6}[strength],
                          slate_id=f"s{number:03}", device=rng.choice(["tv", None]), known_at=moment + rng.randrange(2, 60) * HOUR)
    return lake

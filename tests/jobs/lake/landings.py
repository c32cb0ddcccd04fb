"""Small landed intervals for the lake's tests: a handful of profiles and titles, every record placed by hand or by a
seeded generator, so that counts can be known.
"""

import json
import random
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from contracts.landing import FORMAT_VERSION, MARKER, TABLES, Interval

ARROW = {"string": pa.string(), "int": pa.int32(), "float": pa.float64(), "bool": pa.bool_(),
         "timestamp": pa.timestamp("us", tz="UTC"), "list<string>": pa.list_(pa.string())}

GENRES = (["drama"], ["comedy", "family"], ["crime", "drama"], ["family"])


def at(day: str | date, hours: float = 0.0) -> datetime:
    day = date.fromisoformat(day) if isinstance(day, str) else day
    return datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(hours=hours)


def write_parquet(path: Path, table: str, rows: list[dict], **types: pa.DataType) -> None:
    """Only the columns that some row has; `types` override the contract's."""
    names = [c.name for c in TABLES[table].columns if any(c.name in row for row in rows)]
    fields = [(name, types.get(name) or ARROW[TABLES[table].column(name).type]) for name in names]
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist([{n: row.get(n) for n in names} for row in rows], pa.schema(fields)), path)


def mark(folder: Path, interval: Interval, **extra) -> None:
    marker = {"format_version": FORMAT_VERSION, "source": "test", "first": str(interval.first), "last": str(interval.last), "tables": {}}
    (folder / MARKER).write_text(json.dumps(marker | extra))


def land(root: Path, name: str, tables: dict[str, list[dict]], lines: dict[str, list[str]] | None = None, **extra) -> Path:
    """`tables` as Parquet, `lines` as a JSON Lines part beside it."""
    interval = Interval.parse(name)
    folder = root / name
    for table, rows in tables.items():
        if rows:
            write_parquet(folder / table / "part-0.parquet", table, rows)
    for table, texts in (lines or {}).items():
        (folder / table).mkdir(parents=True, exist_ok=True)
        (folder / table / "part-1.jsonl").write_text("\n".join(texts) + "\n")
    mark(folder, interval, **extra)
    return folder


def catalogue(day: str, titles: int = 8) -> dict[str, list[dict]]:
    """Titles, licences, households and profiles, known from the first moment of `day`."""
    start = at(day)
    stamp = {"event_time": start, "received_at": start}
    return {
        "titles": [stamp | {"event_id": f"t{i}", "title_id": f"title{i}", "valid_from": start, "name": f"Title {i}", "genres": GENRES[i % 4],
                            "maturity": (0, 6, 12, 18)[i % 4], "runtime_minutes": 60.0, "year": 2000 + i} for i in range(titles)],
        "licences": [stamp | {"event_id": f"l{i}", "window_id": f"w{i}", "title_id": f"title{i}", "market": "DE", "opens_at": start} for i in range(titles)],
        "households": [stamp | {"event_id": f"h{i}", "household_id": f"home{i}", "market": "DE"} for i in range(3)],
        "profiles": [stamp | {"event_id": f"p{i}", "profile_id": f"profile{i}", "household_id": f"home{i % 3}", "maturity_limit": 18,
                              "is_kids": False, "preferred_genres": ["drama"]} for i in range(5)],
    }


def events(first: str, last: str, per_day: int = 12, seed: int = 1, titles: int = 8) -> dict[str, list[dict]]:
    """Slates of three titles, plays of some, a few skips and ratings; some plays are received late, within the interval."""
    chance = random.Random(f"{seed} {first} {last}")
    out: dict[str, list[dict]] = {"impressions": [], "plays": [], "skips": [], "ratings": []}
    day, end = date.fromisoformat(first), at(last, 24)
    while day <= date.fromisoformat(last):
        for n in range(per_day):
            moment = at(day, chance.uniform(0, 22))
            slate, profile = f"s-{day}-{n}", f"profile{chance.randrange(5)}"
            shown = chance.sample(range(titles), 3)
            for position, title in enumerate(shown, 1):
                out["impressions"].append({
                    "event_id": f"i-{day}-{n}-{position}", "event_time": moment, "received_at": moment + timedelta(seconds=5),
                    "slate_id": slate, "profile_id": profile, "title_id": f"title{title}", "position": position, "propensity": 0.5,
                    "explored": position == 3, "surface": "home", "device": "tv"})
            if chance.random() < 0.7:
                begun = moment + timedelta(minutes=2)
                received = begun + timedelta(hours=1 if chance.random() < 0.8 else 30)
                out["plays"].append({
                    "event_id": f"y-{day}-{n}", "event_time": begun, "received_at": min(received, end - timedelta(seconds=1)), "profile_id": profile,
                    "title_id": f"title{shown[0]}", "watched_seconds": chance.uniform(60, 3600), "slate_id": slate,
                    "rating": float(chance.randint(1, 5)) if chance.random() < 0.3 else None})
            else:
                out["skips"].append({"event_id": f"k-{day}-{n}", "event_time": moment + timedelta(minutes=1),
                                     "received_at": moment + timedelta(minutes=2), "profile_id": profile, "title_id": f"title{shown[1]}", "slate_id": slate})
            if chance.random() < 0.1:
                out["ratings"].append({"event_id": f"r-{day}-{n}", "event_time": moment, "received_at": moment + timedelta(seconds=1),
                                       "profile_id": profile, "title_id": f"title{shown[2]}", "rating": 4.0})
        day += timedelta(days=1)
    return out

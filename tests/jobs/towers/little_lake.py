"""A home with a little lake of three weeks: two markets, kids, series of one taste, and around the retriever's end
everything that the towers and the index must not know yet.
"""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa

from contracts.marts import MART_COLUMNS, tag_name
from contracts.release import PROVENANCE, Provenance
from contracts.settings import Settings
from contracts.tags import TableVersion, TagRecord
from jobs.lake.read import catalog
from jobs.towers.config import TowersConfig

DAY = date(2026, 3, 22)
START = datetime(2026, 3, 1, tzinfo=UTC)
RELEASE = "2026-03-22-0123456789"
TITLES, PROFILES, TASTES = 40, 90, 4
MARKETS = ("AA", "BB")
LATE, UNSEEN, UNKNOWN_MATURITY = "late", "unseen", "t07"
"""Played by everybody, but only after the retriever's end or known after it; launched on the last day; no maturity."""
HOUR = timedelta(hours=1)
CONFIG = TowersConfig(dimension=16, layers=1, feed_forward=32, history_length=8, epochs=6, tokens_per_batch=256,
                      warm_up_steps=5, dropout=0.0, learning_rate=5e-3, recall_at=5)
_TYPES = {"string": pa.string(), "int": pa.int32(), "double": pa.float64(), "boolean": pa.bool_(), "date": pa.date32(),
          "timestamp": pa.timestamp("us", "UTC"), "array<string>": pa.list_(pa.string()), "array<double>": pa.list_(pa.float64())}


def write(home: Path, **settings) -> Settings:
    """The lake, its tag, and a begun release."""
    made = Settings(_env_file=None, home=home, recipe="nano", threads=1, **settings)
    tag = TagRecord(ds=str(DAY), first=DAY, last=DAY, has_impressions=False,
                    tables={name: TableVersion(snapshot_id=0, rows=0, logical_hash="") for name in ("marts.fct_play",)})
    rows = {"dim_title_version": titles(), "dim_licence_window": licences(), "dim_profile_version": profiles(),
            "fct_play": plays(tag), "feat_title_daily": counts()}
    for name, table in rows.items():
        _write(made, name, table)
    folder = made.releases / RELEASE
    folder.mkdir(parents=True)
    (folder / PROVENANCE).write_text(Provenance(release_id=RELEASE, day=str(DAY), tag=tag, training=tag, code="c", recipe={},
                                                seed=7, libraries={}).model_dump_json())
    return made


def titles() -> list[dict]:
    def row(title: str, i: int, known: datetime, name: str = "") -> dict:
        return {"title_id": title, "known_at": known, "valid_from": known, "name": name or f"Title {i}", "kind": "movie",
                "genres": [f"taste{i % TASTES}"], "credits": [f"Actor {i % 7}"], "language": "en", "year": 2000 + i % 20,
                "runtime_minutes": 90.0, "maturity": None if title == UNKNOWN_MATURITY else (0, 7, 13, 18)[i // 4 % 4],
                "launched_at": known}

    last_day = START + timedelta(days=21)
    return [*(row(f"t{i:02}", i, START) for i in range(TITLES)), row(LATE, 1, START), row(UNSEEN, 2, last_day + HOUR),
            row("t03", 3, last_day + HOUR, "Title 3, restored"), row("t04", 4, last_day + 30 * HOUR, "from the future")]


def licences() -> list[dict]:
    def row(title: str, market: str, opens: datetime, closes: datetime | None) -> dict:
        return {"window_id": f"{title}-{market}", "title_id": title, "market": market, "opens_at": opens, "closes_at": closes,
                "revoked": False, "known_at": START}

    everywhere = [row(f"t{i:02}", market, START, None) for i in range(TITLES) for market in MARKETS if (i + (market == "BB")) % 5]
    return [*everywhere, row(LATE, "AA", START, None), row(UNSEEN, "AA", START + timedelta(days=20), None),
            row("t05", "AA", START, START + timedelta(days=10)), row("t00", "AA", START + timedelta(days=40), None)]


def profiles() -> list[dict]:
    return [{"profile_id": f"p{p:02}", "household_id": f"h{p // 2}", "market": MARKETS[p % 2], "is_kids": p % 6 == 0,
             "maturity_limit": 7 if p % 6 == 0 else 18, "preferred_genres": [f"taste{p % TASTES}"], "language": "en",
             "attributes": [], "known_at": START, "valid_from": START} for p in range(PROFILES)]


def plays(tag: TagRecord) -> list[dict]:
    """Every profile follows its taste's titles in order, one every second day; then come the traps."""
    end = tag.split.retriever_end
    random = np.random.default_rng(5)
    rows = []

    def add(p: int, title: str, moment: datetime, known: datetime | None = None, completion: float = 0.9) -> None:
        rows.append({"event_id": f"e{len(rows):05}", "profile_id": f"p{p:02}", "title_id": title, "event_time": moment,
                     "known_at": known or moment + HOUR, "event_day": moment.date(), "completion": completion,
                     "device": "tv", "surface": "home", "engaged": completion >= 0.5})

    for p in range(PROFILES):
        begin = int(random.integers(TITLES // TASTES))
        for step in range(9):
            title = (begin + step) % (TITLES // TASTES) * TASTES + p % TASTES
            add(p, f"t{title:02}", START + timedelta(days=2 * step + 3, minutes=float(random.integers(900))), completion=(0.9, 0.2)[step == 4])
        add(p, LATE, end - 2 * HOUR, end + HOUR)
        add(p, LATE, end + 2 * HOUR)
    return rows


def counts() -> list[dict]:
    return [{"title_id": f"t{i:02}", "snapshot_day": (START + timedelta(days=d)).date(), "feature_time": START + timedelta(days=d + 1),
             "known_at": START + timedelta(days=d + 1), "plays_1d": d, "plays_7d": d, "plays_30d": d, "impressions_7d": 0,
             "impressions_30d": 0, "skips_7d": 0} for i in range(TITLES) for d in range(22)]


def _write(settings: Settings, name: str, rows: list[dict]) -> None:
    schema = pa.schema([(column, _TYPES[kind]) for column, kind in MART_COLUMNS[name].items()])
    lake = catalog(settings)
    lake.create_namespace_if_not_exists("marts")
    table = lake.create_table(f"marts.{name}", schema)
    table.append(pa.Table.from_pylist(rows, schema))
    table.manage_snapshots().create_tag(table.current_snapshot().snapshot_id, tag_name(str(DAY))).commit()
    table.append(pa.Table.from_pylist(rows[:1], schema))  # main moves on: only the tag counts

"""A home with a real little lake (Iceberg through pyiceberg) and the release files that the ranker reads: slates of a
world in which engagement follows taste, popularity and the place on the slate. Everything from one seed.
"""

import hashlib
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet as pq
from onnx import TensorProto, helper, numpy_helper

from contracts import release as names
from contracts.marts import MART_COLUMNS, TITLE_FEATURES, TRAINING_COLUMNS, tag_name
from contracts.query import CONTEXT_WIDTH, EVENT_WIDTH, PROFILE_WIDTH, QUERY_INPUTS, QUERY_OUTPUT
from contracts.release import Provenance
from contracts.settings import Settings
from contracts.split import split_for
from contracts.tags import TableVersion, TagRecord, tag_file, training_file
from jobs.lake import read

DIMENSION, LENGTH = 8, 20
TITLES, PROFILES, SLATE = 80, 240, 10
DAY = date(2026, 3, 31)
SPLIT = split_for(DAY, DAY)
RELEASE = "2026-03-31-0123456789"
ATTENTION = 1.0 / np.arange(1, SLATE + 1) ** 0.5
GENRES = ("drama", "comedy", "crime", "family")
TYPES = {"string": pa.string(), "int": pa.int32(), "double": pa.float64(), "boolean": pa.bool_(), "date": pa.date32(),
         "timestamp": pa.timestamp("us", "UTC"), "array<string>": pa.list_(pa.string()), "array<int>": pa.list_(pa.int32()),
         "array<double>": pa.list_(pa.float64())}


def schema(columns: dict[str, str]) -> pa.Schema:
    return pa.schema([(name, TYPES[kind]) for name, kind in columns.items()])


class World:
    """Rows of the marts and of the training tables, to be changed by a test before `write`."""

    def __init__(self, has_impressions: bool = True, profiles: int = PROFILES, seed: int = 3):
        rng = np.random.default_rng(seed)
        self.has_impressions = has_impressions
        self.ids = [f"t{i:03d}" for i in range(TITLES)]
        self.vectors = rng.normal(size=(TITLES, DIMENSION)).astype(np.float32)
        self.vectors /= np.linalg.norm(self.vectors, axis=1, keepdims=True)
        self.tower_seed = seed
        self.popularity = rng.integers(0, 200, TITLES)
        self.start = datetime(2026, 3, 1, tzinfo=UTC)
        self.titles = [self._title(i, rng) for i in range(TITLES)]
        self.versions = [self._version(row) for row in self.titles]
        self.licences = [self._licence(title, market) for title in self.ids for market in ("de", "fr")]
        self.daily = [self._daily(i, day) for day in range(30) for i in range(TITLES)]
        self.plays: list[dict] = []
        self.requests: list[dict] = []
        self.impressions: list[dict] = []
        self.shown: list[dict] = []  # slates of the judged day, for tests that fill them
        for p in range(profiles):
            self._profile(p, rng)
        self.logged = [self._explored(n, rng) for n in range(4000)] if has_impressions else []
        self.transitions = sorted((a, b, w) for (a, b), w in self._followed().items())

    def write(self, home: Path) -> Settings:
        settings = Settings(_env_file=None, home=home, recipe="nano", threads=2)
        tables = {"marts.dim_title_version": self.versions, "marts.dim_licence_window": self.licences,
                  "marts.fct_play": self.plays, "marts.feat_title_daily": self.daily}
        written = {name: _write(settings, name, rows, MART_COLUMNS[name.split(".")[1]]) for name, rows in tables.items()}
        _write(settings, "marts.fct_impression", self.logged + self.shown, MART_COLUMNS["fct_impression"])  # not of the tag: its gates stay silent
        training = {"requests": self.requests, "impressions": self.impressions}
        trained = {name: _write(settings, f"training.{name}", rows, TRAINING_COLUMNS[name]) for name, rows in training.items()}
        tag = TagRecord(ds=str(DAY), first=DAY, last=DAY, has_impressions=self.has_impressions, tables=written)
        made = tag.model_copy(update={"tables": trained})
        (settings.lake / "tags").mkdir(parents=True, exist_ok=True)
        (settings.lake / "tags" / tag_file(tag_name(str(DAY)))).write_text(tag.model_dump_json())
        (settings.lake / "tags" / training_file(tag_name(str(DAY)))).write_text(made.model_dump_json())
        self._release(settings, Provenance(release_id=RELEASE, day=str(DAY), tag=tag, training=made, code="c", recipe={},
                                           seed=7, libraries={}))
        return settings

    def _release(self, settings: Settings, provenance: Provenance) -> None:
        folder = settings.releases / RELEASE
        folder.mkdir(parents=True)
        (folder / names.PROVENANCE).write_text(provenance.model_dump_json())
        np.save(folder / names.ITEM_VECTORS, self.vectors)
        onnx.save(query_tower(np.random.default_rng(self.tower_seed)), folder / names.QUERY_TOWER)
        newest = {row["title_id"]: row for row in self.daily if row["snapshot_day"] <= SPLIT.counts_day}
        rows = [row | {name: newest[row["title_id"]][name] for name in TITLE_FEATURES} for row in self.titles]
        pq.write_table(pa.Table.from_pylist(rows), folder / names.TITLES)
        for name in (names.TRANSITIONS, names.COWATCH):
            pq.write_table(pa.table({"from_title": [r[0] for r in self.transitions], "to_title": [r[1] for r in self.transitions],
                                     "weight": pa.array([r[2] for r in self.transitions], pa.float32())}), folder / name)

    def _title(self, i: int, rng: np.random.Generator) -> dict:
        return {"title_id": self.ids[i], "name": f"Title {i}", "genres": sorted(rng.choice(GENRES, 2, replace=False).tolist()),
                "language": "de", "kind": "movie", "series_id": None, "year": int(rng.integers(1980, 2026)),
                "runtime_minutes": 90.0, "maturity": int(rng.choice([0, 6, 12, 16])), "launched_at": self.start,
                "id_index": i + 1}

    def _version(self, title: dict) -> dict:
        return {name: title.get(name) for name in MART_COLUMNS["dim_title_version"]} | {
            "valid_from": self.start, "valid_to": None, "known_at": self.start}

    def _licence(self, title: str, market: str) -> dict:
        return {"window_id": f"{title}-{market}", "title_id": title, "market": market, "opens_at": self.start,
                "closes_at": None, "revoked": False, "known_at": self.start, "superseded_at": None}

    def _daily(self, i: int, day: int) -> dict:
        snapshot = self.start + timedelta(days=day)
        end = snapshot + timedelta(days=1)
        plays = int(self.popularity[i])
        return {"title_id": self.ids[i], "snapshot_day": snapshot.date(), "feature_time": end, "known_at": end,
                "plays_1d": plays // 7, "plays_7d": plays, "plays_30d": plays * 4, "completion_30d": 0.5,
                "impressions_7d": 100 + day, "impressions_30d": 400, "play_rate_30d": plays / 400, "skips_7d": day,
                "rating_mean": None}

    def _profile(self, p: int, rng: np.random.Generator) -> None:
        profile, market = f"p{p:04d}", ("de", "fr")[p % 2]
        taste = rng.normal(size=DIMENSION)
        taste /= np.linalg.norm(taste)
        liked = np.argsort(-(self.vectors @ taste) + rng.normal(0, 0.2, TITLES))[:8]
        past = rng.permutation(liked)[:4]
        for n, title in enumerate(past):
            self._play(profile, self.ids[title], SPLIT.retriever_end - timedelta(days=5 - n), 0.9)
        for s in range(2):
            at = SPLIT.retriever_end + timedelta(hours=float(rng.uniform(1, 11)) + 12 * s)
            shown = rng.choice(np.setdiff1d(np.arange(TITLES), past), SLATE, replace=False)
            appeal = 3.0 * (self.vectors[shown] @ taste) + 0.008 * self.popularity[shown] - 2.0
            attention = ATTENTION
            engaged = rng.random(SLATE) < attention / (1 + np.exp(-appeal))
            gains = [int(rng.integers(1, 4)) if hit else 0 for hit in engaged]
            self._slate(profile, market, at, [self.ids[i] for i in shown], gains)

        wanted = [int(i) for i in liked if i not in past][:3]
        self._judged(profile, market, SPLIT.ranker_end + timedelta(hours=1 + p % 20), [self.ids[i] for i in wanted])

    def _explored(self, n: int, rng: np.random.Generator) -> dict:
        """An exploration slot of the days before the ranker's block."""
        place, at = n % SLATE + 1, SPLIT.retriever_end - timedelta(hours=float(rng.uniform(1, 48)))
        played = rng.random() < 0.6 * ATTENTION[place - 1]
        return {"event_id": f"e{n}", "slate_id": f"s{n}", "profile_id": "p", "title_id": self.ids[n % TITLES], "position": place,
                "propensity": 0.01, "explored": True, "device": "tv", "event_time": at, "known_at": at, "engagement": int(played)}

    def _judged(self, profile: str, market: str, at: datetime, relevant: list[str]) -> None:
        """A request of the judge's day, and the plays that it is judged by."""
        self.requests.append({name: None for name in TRAINING_COLUMNS["requests"]} | {
            "ds": str(DAY), "role": "judge", "request_id": f"judge:{profile}", "profile_id": profile, "event_time": at,
            "market": market, "is_kids": False, "maturity_limit": 12, "preferred_genres": [], "language": "de",
            "attributes": [], "device": ("tv", "web")[len(self.requests) % 2], "surface": "home", "relevant_titles": relevant,
            "relevant_gains": [2] * len(relevant)})
        for title in relevant:
            self._play(profile, title, at + timedelta(minutes=10), 0.9)

    def _slate(self, profile: str, market: str, at: datetime, shown: list[str], gains: list[int]) -> None:
        request = f"{profile}-{at:%H%M}"
        relevant = {title: gain for title, gain in zip(shown, gains) if gain}
        row = {name: None for name in TRAINING_COLUMNS["requests"]} | {
            "ds": str(DAY), "role": "ranker", "request_id": request, "profile_id": profile, "event_time": at, "market": market,
            "is_kids": False, "maturity_limit": 12, "preferred_genres": ["drama"], "language": "de", "attributes": [],
            "device": "tv", "surface": "home", "relevant_titles": list(relevant), "relevant_gains": list(relevant.values()),
            "plays_7d": 4, "plays_30d": 4, "completion_30d": 0.9, "last_play_at": SPLIT.retriever_end - timedelta(days=2)}
        self.requests.append(row)
        if self.has_impressions:
            counted = {row["title_id"]: row for row in self.daily if row["feature_time"] <= at - SPLIT.counts_lag}
            self.impressions += [
                {"ds": str(DAY), "request_id": request, "title_id": title, "position": place, "propensity": 0.5,
                 "engagement": gain, "title_features_at": counted[title]["feature_time"]}
                | {name: counted[title][name] for name in TITLE_FEATURES}
                for place, (title, gain) in enumerate(zip(shown, gains), 1)]
        for title, gain in relevant.items():
            self._play(profile, title, at + timedelta(minutes=1), gain / 3)

    def _play(self, profile: str, title: str, at: datetime, completion: float) -> None:
        row = {name: None for name in MART_COLUMNS["fct_play"]} | {
            "event_id": hashlib.sha1(f"{profile}{title}{at}".encode()).hexdigest()[:12], "profile_id": profile,
            "title_id": title, "event_time": at, "known_at": at + timedelta(minutes=5), "event_day": at.date(),
            "completion": completion, "engaged": completion >= 0.5}
        self.plays.append(row)

    def _followed(self) -> dict[tuple[str, str], float]:
        old = [play for play in self.plays if play["event_time"] < SPLIT.retriever_end]
        pairs: dict[tuple[str, str], float] = {}
        for one, other in pairwise(old):
            if one["profile_id"] == other["profile_id"]:
                pair = (one["title_id"], other["title_id"])
                pairs[pair] = pairs.get(pair, 0.0) + 1.0
        return pairs


def _write(settings: Settings, name: str, rows: list[dict], columns: dict[str, str]) -> TableVersion:
    catalog = read.catalog(settings)
    catalog.create_namespace_if_not_exists(name.split(".")[0])
    data = pa.Table.from_pylist([{c: row.get(c) for c in columns} for row in rows], schema(columns))
    table = catalog.create_table(name, data.schema)
    table.append(data)
    snapshot = table.current_snapshot().snapshot_id
    table.manage_snapshots().create_tag(snapshot, tag_name(str(DAY))).commit()
    return TableVersion(snapshot_id=snapshot, rows=len(rows), logical_hash="h")


def query_tower(rng: np.random.Generator) -> onnx.ModelProto:
    """normalise(masked sum of the history + a little of profile and context)."""
    def small(name: str, rows: int) -> onnx.TensorProto:
        return numpy_helper.from_array(0.01 * rng.normal(size=(rows, DIMENSION)).astype(np.float32), name)

    shapes = ([LENGTH, DIMENSION], [LENGTH, EVENT_WIDTH], [LENGTH], [PROFILE_WIDTH], [CONTEXT_WIDTH])
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["B", *shape]) for name, shape in zip(QUERY_INPUTS, shapes)]
    constants = [small("P", PROFILE_WIDTH), small("C", CONTEXT_WIDTH), small("E", EVENT_WIDTH),
                 numpy_helper.from_array(np.array([2]), "last"), numpy_helper.from_array(np.array([1]), "events")]
    nodes = [
        helper.make_node("MatMul", ["history_features", "E"], ["seen"]),
        helper.make_node("Add", ["history_vectors", "seen"], ["events_LD"]),
        helper.make_node("Unsqueeze", ["history_mask", "last"], ["mask"]),
        helper.make_node("Mul", ["events_LD", "mask"], ["masked"]),
        helper.make_node("ReduceSum", ["masked", "events"], ["history"], keepdims=0),
        helper.make_node("MatMul", ["profile", "P"], ["who"]),
        helper.make_node("MatMul", ["context", "C"], ["where"]),
        helper.make_node("Sum", ["history", "who", "where"], ["sum"]),
        helper.make_node("LpNormalization", ["sum"], [QUERY_OUTPUT], axis=1, p=2),
    ]
    output = helper.make_tensor_value_info(QUERY_OUTPUT, TensorProto.FLOAT, ["B", DIMENSION])
    graph = helper.make_graph(nodes, "query", inputs, [output], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)

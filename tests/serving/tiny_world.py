"""A catalogue of a few hundred titles, an eligibility log, and real releases of it: ONNX towers with random weights,
item vectors, a LightGBM ranker, a Milvus collection, digests. Everything from seeds.
"""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import jwt
import lightgbm as lgb
import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet as pq
from onnx import TensorProto, helper, numpy_helper
from pymilvus import DataType, MilvusClient

from contracts import release as files
from contracts.content import CONTENT_WIDTH, content_json
from contracts.eligibility import FAR, NEVER_MATURITY, Eligibility, Record, field_names
from contracts.features import RANKING_FEATURES
from contracts.marts import TITLE_FEATURES
from contracts.query import (
    CONTEXT_WIDTH,
    EVENT_WIDTH,
    ID_TITLES,
    ITEM_INPUTS,
    ITEM_OUTPUT,
    PROFILE_WIDTH,
    QUERY_INPUTS,
    QUERY_OUTPUT,
)
from contracts.release import Manifest, Payload, RankerSpec, ReleaseSpec, collection_name, evidence_digest, file_entry
from contracts.settings import Settings

DIMENSION, LENGTH = 16, 20
MARKETS = ("de", "fr")
GENRES = ("drama", "comedy", "crime", "nature", "family")
NOW = datetime(2026, 4, 1, 12, tzinfo=UTC)
DAY = 86400
KEY = "a secret for tests only, long enough for HS256"


@dataclass
class Catalogue:
    """Titles `t000`…; maturities (some unknown) and windows (some missing, closed, later, twice) by chance."""

    size: int
    seed: int
    log: list[Record] = field(default_factory=list)

    def __post_init__(self) -> None:
        rng = np.random.default_rng(self.seed)
        self.ids = [f"t{i:03d}" for i in range(self.size)]
        self.maturity = [None if rng.random() < 0.1 else int(rng.choice([0, 7, 12, 16, 18])) for _ in self.ids]
        self.genres = [list(rng.choice(GENRES, 2, replace=False)) for _ in self.ids]
        self.series = [f"s{rng.integers(self.size // 6 + 1)}" if rng.random() < 0.4 else None for _ in self.ids]
        self.plays = rng.integers(0, 1000, self.size)
        self.launched = [NOW - timedelta(days=int(days)) for days in np.random.default_rng(self.seed).integers(1, 900, self.size)]
        for i, title_id in enumerate(self.ids):
            self._add("title", title_id, maturity=self.maturity[i], content=content_json(self.content(i)))
            for market in MARKETS:
                for number in range(rng.choice(3, p=[0.1, 0.75, 0.15])):
                    opens = int(NOW.timestamp()) + int(rng.integers(-40, 3)) * DAY
                    closes = opens + int(rng.choice([10, 30, 50, 10000])) * DAY
                    self._add("licence", title_id, window_id=f"{title_id}-{market}-{number}", market=market,
                              opens_at=opens, closes_at=min(closes, FAR))

    def content(self, i: int) -> dict:
        """Title i as a landed record, a mart and titles.parquet have it."""
        return {
            "title_id": self.ids[i], "name": f"Title {self.ids[i]}", "synopsis": None, "genres": self.genres[i],
            "credits": ["somebody"], "language": "en" if i % 3 else None, "kind": "movie", "series_id": self.series[i],
            "year": None if i % 11 == 0 else 1990 + i % 30, "runtime_minutes": 90.0, "maturity": self.maturity[i],
            "launched_at": self.launched[i],
        }

    def _add(self, kind: str, title_id: str, **values) -> None:
        self.log.append(Record(seq=len(self.log) + 1, kind=kind, title_id=title_id, **values))

    def eligibility(self) -> Eligibility:
        eligibility = Eligibility()
        eligibility.apply(self.log)
        return eligibility


def oracle(log: list[Record], title_id: str, market: str, limit: int, moment: datetime) -> bool:
    """Who may see what, said again in another way than contracts.eligibility says it."""
    maturities = [r.maturity for r in log if r.kind == "title" and r.title_id == title_id]
    newest = {r.window_id: r for r in log if r.kind == "licence" and (r.title_id, r.market) == (title_id, market)}
    at = int(moment.timestamp())
    is_open = any(not r.revoked and r.opens_at <= at < r.closes_at for r in newest.values())
    return bool(maturities) and maturities[-1] is not None and maturities[-1] <= limit and is_open


def build_release(
    settings: Settings, catalogue: Catalogue, release_id: str, seed: int, kind: str = "lambdamart",
    pool_size: int = 60, vectors: bool = True, judged: bool = True,
) -> Path:
    """A complete release folder; with `vectors` its collection in Milvus too."""
    folder = settings.releases / release_id
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    items = _unit(rng.normal(size=(catalogue.size, DIMENSION))).astype(np.float32)
    np.save(folder / files.ITEM_VECTORS, items)
    onnx.save(query_tower(rng), folder / files.QUERY_TOWER)
    onnx.save(item_tower(rng, catalogue.ids), folder / files.ITEM_TOWER)
    pq.write_table(titles_table(catalogue, rng), folder / files.TITLES)
    pq.write_table(neighbours_table(catalogue, rng), folder / files.TRANSITIONS)
    pq.write_table(neighbours_table(catalogue, rng, least=-0.5), folder / files.COWATCH)
    pq.write_table(fallback_table(catalogue), folder / files.FALLBACK)
    if kind == "lambdamart":
        train_ranker(rng).save_model(folder / files.RANKER)
    spec = ReleaseSpec(
        release_id=release_id, day="2026-03-31", dimension=DIMENSION, history_length=LENGTH,
        collection=collection_name(release_id), markets=list(MARKETS), feature_service="ranking_v1", pool_size=pool_size,
        ranker=RankerSpec(kind=kind, features=list(RANKING_FEATURES) if kind == "lambdamart" else [], transition_weight=0.4),
    )
    (folder / files.SPEC).write_text(spec.model_dump_json())
    seal(folder, release_id, judged)
    if vectors:
        load_collection(settings, spec.collection, catalogue, items)
    return folder


def seal(folder: Path, release_id: str, judged: bool = True) -> None:
    """Digests over the files as they are, and the manifest."""
    entries = {name: file_entry(folder / name) for name in files.PAYLOAD_FILES if (folder / name).is_file()}
    payload = Payload(release_id=release_id, files=entries, payload_digest=files.payload_digest(entries))
    (folder / files.PAYLOAD).write_text(payload.model_dump_json())
    if judged:
        manifest = Manifest(release_id=release_id, day="2026-03-31", payload=payload, evidence={}, verdict="passed",
                            evidence_digest=evidence_digest({}, payload.payload_digest, None))
        (folder / files.MANIFEST).write_text(manifest.model_dump_json())


def query_tower(rng: np.random.Generator) -> onnx.ModelProto:
    """normalise(masked sum of history + profile·P + context·C): a query tower without training."""
    def weights(name: str, rows: int) -> onnx.TensorProto:
        return numpy_helper.from_array(rng.normal(size=(rows, DIMENSION)).astype(np.float32), name)

    shapes = ([LENGTH, DIMENSION], [LENGTH, EVENT_WIDTH], [LENGTH], [PROFILE_WIDTH], [CONTEXT_WIDTH])
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["B", *shape]) for name, shape in zip(QUERY_INPUTS, shapes)]
    constants = [weights("P", PROFILE_WIDTH), weights("C", CONTEXT_WIDTH), weights("E", EVENT_WIDTH),
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


def item_tower(rng: np.random.Generator, id_titles: list[str]) -> onnx.ModelProto:
    """normalise(content·W + id embedding): an item tower without training."""
    weights = [numpy_helper.from_array(rng.normal(size=(rows, DIMENSION)).astype(np.float32), name)
               for name, rows in (("W", CONTENT_WIDTH), ("ids", len(id_titles) + 1))]
    nodes = [
        helper.make_node("MatMul", [ITEM_INPUTS[0], "W"], ["about"]), helper.make_node("Gather", ["ids", ITEM_INPUTS[1]], ["known"]),
        helper.make_node("Add", ["about", "known"], ["sum"]), helper.make_node("LpNormalization", ["sum"], [ITEM_OUTPUT], axis=1, p=2),
    ]
    inputs = [helper.make_tensor_value_info(ITEM_INPUTS[0], TensorProto.FLOAT, ["N", CONTENT_WIDTH]),
              helper.make_tensor_value_info(ITEM_INPUTS[1], TensorProto.INT64, ["N"])]
    output = helper.make_tensor_value_info(ITEM_OUTPUT, TensorProto.FLOAT, ["N", DIMENSION])
    model = helper.make_model(helper.make_graph(nodes, "item", inputs, [output], weights),
                              opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    helper.set_model_props(model, {ID_TITLES: json.dumps(id_titles)})
    return model


def train_ranker(rng: np.random.Generator, features: tuple[str, ...] = RANKING_FEATURES) -> lgb.Booster:
    """A small LightGBM model of random labels."""
    rows = rng.normal(size=(200, len(features)))
    data = lgb.Dataset(rows, rng.random(200), feature_name=list(features))
    return lgb.train({"num_leaves": 7, "verbose": -1, "num_threads": 1, "min_data_in_leaf": 5}, data, 10)


def titles_table(catalogue: Catalogue, rng: np.random.Generator) -> pa.Table:
    """As the index job makes it: content, counts, and the windows that the collection knows."""
    n, eligibility, at = catalogue.size, catalogue.eligibility(), int(NOW.timestamp())
    types = {"year": pa.int32(), "maturity": pa.int32(), "launched_at": pa.timestamp("us", "UTC"), "synopsis": pa.string()}
    rows = [catalogue.content(i) for i in range(n)]
    columns = {name: pa.array([row[name] for row in rows], types.get(name)) for name in rows[0]}
    columns["id_index"] = list(range(1, n + 1))
    columns["windows"] = [[dict(zip(("market", "opens_at", "closes_at"), (market, *span))) for market in MARKETS
                           if (span := eligibility.window(title_id, market, at))] for title_id in catalogue.ids]
    return pa.table(columns | {name: rng.random(n) * 100 for name in TITLE_FEATURES})


def neighbours_table(catalogue: Catalogue, rng: np.random.Generator, least: float = 0.0) -> pa.Table:
    pairs = sorted({(int(a), int(b)) for a, b in rng.integers(0, catalogue.size, (catalogue.size * 4, 2)) if a != b})
    return pa.table({
        "from_title": [catalogue.ids[a] for a, _ in pairs], "to_title": [catalogue.ids[b] for _, b in pairs],
        "weight": (least + rng.random(len(pairs))).astype(np.float32),
    })


def fallback_table(catalogue: Catalogue) -> pa.Table:
    """The thirty most played titles for each market and cohort."""
    best = np.argsort(-catalogue.plays, kind="stable")[:30]
    rows = [(market, cohort, rank, catalogue.ids[i], float(catalogue.plays[i]))
            for market in MARKETS for cohort in ("general", "kids") for rank, i in enumerate(best, 1)]
    return pa.table(dict(zip(("market", "cohort", "rank", "title_id", "score"), zip(*rows))))


def load_collection(settings: Settings, name: str, catalogue: Catalogue, items: np.ndarray) -> None:
    """The collection as the index job makes it: maturity, and per market the current or next window."""
    client = MilvusClient(**settings.milvus_connection())
    schema = client.create_schema(auto_id=False, enable_dynamic_field=False)
    schema.add_field("title_id", DataType.VARCHAR, is_primary=True, max_length=64)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=DIMENSION)
    schema.add_field("maturity", DataType.INT64)
    for market in MARKETS:
        for scalar in field_names(market):
            schema.add_field(scalar, DataType.INT64)
    index = client.prepare_index_params()
    index.add_index("vector", index_type="FLAT", metric_type="IP")
    if client.has_collection(name):  # of another test's release by that name: the session shares one server
        client.drop_collection(name)
    client.create_collection(name, schema=schema, index_params=index)
    eligibility, at = catalogue.eligibility(), int(NOW.timestamp())
    rows = []
    for title_id, maturity, vector in zip(catalogue.ids, catalogue.maturity, items):
        row = {"title_id": title_id, "vector": vector.tolist(), "maturity": NEVER_MATURITY if maturity is None else maturity}
        for market in MARKETS:
            row |= dict(zip(field_names(market), eligibility.window(title_id, market, at) or (FAR, 0)))
        rows.append(row)
    client.insert(name, rows)
    client.flush(name)
    client.load_collection(name)
    client.close()


def token(profiles: list[str], market: str = "de", limit: int | None = 18, key: str = KEY, expires_in: float = 600, **more) -> str:
    claims = {"sub": "h1", "profiles": profiles, "market": market, "exp": int(time.time() + expires_in), **more}
    if limit is not None:
        claims["maturity_limit"] = limit
    return jwt.encode({k: v for k, v in claims.items() if v is not ...}, key, algorithm="HS256")


def bearer(*arguments, **options) -> Mapping[str, str]:
    return {"Authorization": f"Bearer {token(*arguments, **options)}"}


def reseal_spec(folder: Path, release_id: str, **changes) -> None:
    """Changes spec.json and makes the digests fit."""
    path = folder / files.SPEC
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    seal(folder, release_id)


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)

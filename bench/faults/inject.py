"""How each fault is put in: functions of a town at the step that the fault names, most of them made by another."""

import json
import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from bench.faults.town import Town
from contracts import release as names
from contracts.eligibility import FAR, Record, field_names
from contracts.features import RANKING_FEATURES
from contracts.landing import MARKER, TABLES, content_sha256, table_files
from contracts.marts import MARTS, TRAINING, tag_name
from contracts.release import Manifest, Payload, ReleaseSpec
from contracts.tags import TagRecord, tag_file, training_file
from jobs.lake import read
from ledger import open_ledger

SEED = 7
Change = Callable[[pa.Table], pa.Table]
Act = Callable[[Town], None]


# --- changes of a table ---------------------------------------------------------------------------------------------

def rename(column: str, to: str) -> Change:
    return lambda rows: rows.rename_columns([to if name == column else name for name in rows.column_names])


def as_text(column: str) -> Change:
    return lambda rows: _with(rows, column, pa.array([f"yesterday {i}" for i in range(len(rows))]))


def keep(share: float) -> Change:
    return lambda rows: rows.slice(0, max(1, round(share * len(rows))))


def null(column: str, share: float) -> Change:
    def change(rows: pa.Table) -> pa.Table:
        gone = np.random.default_rng(SEED).random(len(rows)) < share
        return _with(rows, column, pc.if_else(pa.array(gone), pa.scalar(None, rows[column].type), rows[column].combine_chunks()))
    return change


def prefix(column: str, text: str) -> Change:
    return lambda rows: _with(rows, column, pc.binary_join_element_wise(text, rows[column].cast(pa.string()), ""))


def constant(column: str, value: object) -> Change:
    return lambda rows: _with(rows, column, pa.array([value] * len(rows), rows[column].type))


def times(column: str, factor: float) -> Change:
    return lambda rows: _with(rows, column, pc.multiply(rows[column].cast(pa.float64()), factor))


def shift_days(column: str, days: int) -> Change:
    return lambda rows: _with(rows, column, pc.add(rows[column], pa.scalar(timedelta(days=days), pa.duration("us"))))


def older(days: int) -> Change:
    """Happened long ago, received now, under new ids."""
    return lambda rows: prefix("event_id", "again-")(shift_days("event_time", -days)(rows))


def repeat(times_over: int) -> Change:
    return lambda rows: pa.concat_tables([rows] * times_over)


def copy_column(source: str, target: str) -> Change:
    return lambda rows: _with(rows, target, rows[source].cast(rows[target].type))


def _with(rows: pa.Table, column: str, values) -> pa.Table:
    place = rows.column_names.index(column)
    return rows.set_column(place, column, values)


# --- the landed day -------------------------------------------------------------------------------------------------

def landed(town: Town, table: str, change: Change, tell: bool) -> None:
    """Changes every Parquet file of a table; an empty one stays as it is."""
    for path in _parquet_files(town.landed, table):
        rows = pq.read_table(path, partitioning=None)
        if len(rows):
            pq.write_table(change(rows), path)
    if tell:
        _tell(town.landed)


def _tell(folder: Path) -> None:
    """The marker says what is there now: the source believes it."""
    marker = json.loads((folder / MARKER).read_text())
    counts = {table: sum(map(_rows, files)) for table in TABLES if (files := table_files(folder, table))}
    (folder / MARKER).write_text(json.dumps(marker | {"tables": counts, "content_sha256": content_sha256(folder)}))


def _rows(path: Path) -> int:
    return pq.read_metadata(path).num_rows if path.suffix == ".parquet" else len(path.read_text().splitlines())


def _parquet_files(folder: Path, table: str) -> list[Path]:
    return [path for path in table_files(folder, table) if path.suffix == ".parquet"]


def remove_table(table: str) -> Act:
    return lambda town: [path.unlink() for path in table_files(town.landed, table)] and None


def cut_file(table: str) -> Act:
    return lambda town: _cut(_parquet_files(town.landed, table)[0])


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def remove_marker(town: Town) -> None:
    (town.landed / MARKER).unlink()


def empty_day(town: Town) -> None:
    for table in ("plays", "impressions"):
        for path in table_files(town.landed, table):
            if path.suffix == ".parquet":
                pq.write_table(pq.read_table(path, partitioning=None).slice(0, 0), path)
            else:
                path.unlink()
    _tell(town.landed)


def land_again(town: Town) -> None:
    import shutil

    day = datetime.fromisoformat(town.night["ds"]).date()
    again = town.landed.with_name(f"{day - timedelta(days=1)}..{day}")
    shutil.copytree(town.landed, again)
    marker = json.loads((again / MARKER).read_text())
    (again / MARKER).write_text(json.dumps(marker | {"first": str(day - timedelta(days=1))}))


# --- marts, online rows, training rows ------------------------------------------------------------------------------

def empty_mart(name: str) -> Act:
    return lambda town: _rewrite(town, f"{MARTS}.{name}", lambda rows: rows.slice(0, 0))


def null_mart(name: str, column: str) -> Act:
    return lambda town: _rewrite(town, f"{MARTS}.{name}", null(column, 1.0))


def scale_mart(name: str, factor: int) -> Act:
    def change(rows: pa.Table) -> pa.Table:
        for field in rows.schema:
            if field.name.endswith(("d",)) and pa.types.is_integer(field.type):
                rows = _with(rows, field.name, pc.multiply(rows[field.name], factor).cast(field.type))
        return rows
    return lambda town: _rewrite(town, f"{MARTS}.{name}", change)


def drop_tag(name: str) -> Act:
    def act(town: Town) -> None:
        read.open_table(town.settings, f"{MARTS}.{name}").manage_snapshots().remove_tag(tag_name(town.night["ds"])).commit()
    return act


def _rewrite(town: Town, name: str, change: Change) -> int:
    """The whole table anew, and the night's tag on it; returns the snapshot."""
    table = read.open_table(town.settings, name)
    tag = tag_name(town.night["ds"])
    table.overwrite(change(table.scan().to_arrow()).cast(table.schema().as_arrow()))
    snapshot = table.refresh().current_snapshot().snapshot_id
    if tag in table.refs():
        table.manage_snapshots().remove_tag(tag).commit()
        table.manage_snapshots().create_tag(snapshot, tag).commit()
        _record(town, tag_file(tag), name.removeprefix(f"{MARTS}."), snapshot)
    return snapshot


def _record(town: Town, file: str, table: str, snapshot: int) -> None:
    path = town.settings.lake / "tags" / file
    record = TagRecord.model_validate_json(path.read_text())
    record.tables[table] = record.tables[table].model_copy(update={"snapshot_id": snapshot})
    path.write_text(record.model_dump_json(indent=1))


def training(town: Town, table: str, change: Change) -> None:
    """The night's rows are changed, the other nights' stay."""
    def only_tonight(rows: pa.Table) -> pa.Table:
        mine = pc.equal(rows["ds"], town.night["ds"])
        return pa.concat_tables([rows.filter(pc.invert(mine)), change(rows.filter(mine)).cast(rows.schema)])

    snapshot = _rewrite(town, f"{TRAINING}.{table}", only_tonight)
    _record(town, training_file(tag_name(town.night["ds"])), table, snapshot)


def lose_online_rows(town: Town) -> None:
    with sqlite3.connect(town.home / "feast" / "online.db") as database:
        database.execute("delete from marquee_profile_daily where rowid % 2 = 0")


def shuffle_online_rows(town: Town) -> None:
    """Each profile has the values of the next."""
    with sqlite3.connect(town.home / "feast" / "online.db") as database:
        rows = database.execute("select rowid, feature_name, value from marquee_profile_daily order by feature_name, rowid").fetchall()
        by_feature: dict[str, list] = {}
        for row, feature, value in rows:
            by_feature.setdefault(feature, []).append((row, value))
        for found in by_feature.values():
            values = [value for _, value in found]
            database.executemany("update marquee_profile_daily set value = ? where rowid = ?",
                                 [(values[i - 1], row) for i, (row, _) in enumerate(found)])


# --- files of the release -------------------------------------------------------------------------------------------

def _vectors(change: Callable[[np.ndarray], np.ndarray]) -> Act:
    def act(town: Town) -> None:
        path = town.release / names.ITEM_VECTORS
        np.save(path, change(np.load(path)))
    return act


def _nan(vectors: np.ndarray) -> np.ndarray:
    vectors[3, 1] = np.nan
    return vectors


shuffle_vectors = _vectors(lambda vectors: np.random.default_rng(SEED).permutation(vectors))
wrong_dimension = _vectors(lambda vectors: np.ascontiguousarray(vectors[:, :-8]))
nan_vector = _vectors(_nan)
scale_vectors = _vectors(lambda vectors: vectors * np.float32(1.5))


def file_of_live(name: str) -> Act:
    def act(town: Town) -> None:
        (town.release / name).write_bytes((town.settings.releases / town.night["live"] / name).read_bytes())
    return act


def cut_release_file(name: str) -> Act:
    return lambda town: _cut(_tree_ranker(town) if name == names.RANKER else town.release / name)


def remove_release_file(name: str) -> Act:
    return lambda town: (town.release / name).unlink()


def flip_bit(name: str) -> Act:
    def act(town: Town) -> None:
        path = town.release / name
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    return act


def _tree_ranker(town: Town) -> Path:
    """ranker.txt, made here where the night's validation chose the blend: the faults need one to break."""
    import lightgbm

    path, spec = town.release / names.RANKER, _spec(town)
    if spec.ranker.kind != "lambdamart" or not path.exists():
        random = np.random.default_rng(SEED)
        rows = random.normal(size=(400, len(RANKING_FEATURES)))
        data = lightgbm.Dataset(rows, rows[:, 1] > 0, feature_name=list(RANKING_FEATURES))
        path.write_text(lightgbm.train({"objective": "binary", "num_leaves": 8, "verbose": -1, "num_threads": 1}, data, 20).model_to_string())
        _write_spec(town, spec.model_copy(update={"ranker": spec.ranker.model_copy(
            update={"kind": "lambdamart", "features": list(RANKING_FEATURES)})}))
    return path


def permute_ranker_names(town: Town) -> None:
    path = _tree_ranker(town)
    path.write_text("\n".join(
        "feature_names=" + " ".join(reversed(line.removeprefix("feature_names=").split())) if line.startswith("feature_names=") else line
        for line in path.read_text().split("\n")))


def permute_ranker_columns(town: Town) -> None:
    """The names are right; the trees look at other columns."""
    path, order = _tree_ranker(town), np.random.default_rng(SEED).permutation(len(RANKING_FEATURES))
    lines = path.read_text().split("\n")
    for i, line in enumerate(lines):
        if line.startswith("split_feature="):
            lines[i] = "split_feature=" + " ".join(str(order[int(n)]) for n in line.removeprefix("split_feature=").split())
    path.write_text("\n".join(line for line in lines if not line.startswith("tree_sizes=")))


def popularity_ranker(town: Town) -> None:
    """A model of one feature: how often a title was played."""
    import lightgbm

    path, random = _tree_ranker(town), np.random.default_rng(SEED)
    rows = random.uniform(0, 6, (2000, len(RANKING_FEATURES)))
    target = rows[:, RANKING_FEATURES.index("title_plays_30d_log")]
    data = lightgbm.Dataset(rows, target, feature_name=list(RANKING_FEATURES))
    path.write_text(lightgbm.train({"objective": "regression", "num_leaves": 63, "verbose": -1, "num_threads": 1}, data, 60).model_to_string())


def _titles(change: Change) -> Act:
    def act(town: Town) -> None:
        path = town.release / names.TITLES
        pq.write_table(change(pq.read_table(path)), path)
    return act


def drop_title_column(column: str) -> Act:
    return _titles(lambda rows: rows.drop_columns([column]))


def null_title_column(column: str) -> Act:
    return _titles(null(column, 1.0))


reverse_titles = _titles(lambda rows: rows.take(list(range(len(rows) - 1, -1, -1))))


def unknown_transitions(town: Town) -> None:
    path = town.release / names.TRANSITIONS
    pq.write_table(prefix("to_title", "x-")(pq.read_table(path)), path)


def empty_fallback(town: Town) -> None:
    path = town.release / names.FALLBACK
    pq.write_table(pq.read_table(path).slice(0, 0), path)


def _spec(town: Town) -> ReleaseSpec:
    return ReleaseSpec.model_validate_json((town.release / names.SPEC).read_text())


def _write_spec(town: Town, spec: ReleaseSpec) -> None:
    (town.release / names.SPEC).write_text(spec.model_dump_json(indent=1))


def rename_spec(town: Town) -> None:
    _write_spec(town, _spec(town).model_copy(update={"release_id": town.night["live"]}))


# --- the vector index -----------------------------------------------------------------------------------------------

def _index(change: Callable[[list[dict], list[str]], list[dict]]) -> Act:
    """Rewrites rows of the collection in place; `change` gets rows and markets."""
    def act(town: Town) -> None:
        from pymilvus import MilvusClient

        spec, client = _spec(town), MilvusClient(**town.settings.milvus_connection())
        fields = ["title_id", "vector", "maturity", *(f for market in spec.markets for f in field_names(market))]
        ids = pq.read_table(town.release / names.TITLES)["title_id"].to_pylist()
        client.load_collection(spec.collection)
        rows = [{name: row[name] for name in fields} for row in client.get(spec.collection, ids=ids, output_fields=fields)]
        client.upsert(spec.collection, change(rows, spec.markets))
        client.flush(spec.collection)
        client.close()
    return act


def lose_indexed(share: float) -> Act:
    def act(town: Town) -> None:
        from pymilvus import MilvusClient

        ids = pq.read_table(town.release / names.TITLES)["title_id"].to_pylist()
        client = MilvusClient(**town.settings.milvus_connection())
        client.delete(_spec(town).collection, ids=ids[: round(share * len(ids))])
        client.flush(_spec(town).collection)
        client.close()
    return act


def _others_vectors(rows: list[dict], markets: list[str]) -> list[dict]:
    order = np.random.default_rng(SEED).permutation(len(rows))
    return [row | {"vector": rows[i]["vector"]} for row, i in zip(rows, order)]


def _all_open(rows: list[dict], markets: list[str]) -> list[dict]:
    spans = {name: value for market in markets for name, value in zip(field_names(market), (0, FAR), strict=True)}
    return [row | spans for row in rows]


shuffle_index = _index(_others_vectors)
open_index = _index(_all_open)
zero_maturity_index = _index(lambda rows, markets: [row | {"maturity": 0} for row in rows])


# --- eligibility ----------------------------------------------------------------------------------------------------

def revoke_log(town: Town) -> None:
    _append(town, lambda record: record.kind == "licence", {"revoked": True})


def unrate_log(town: Town) -> None:
    _append(town, lambda record: record.kind == "title", {"maturity": None})


def _append(town: Town, which: Callable[[Record], bool], values: dict) -> None:
    """Versions known at the night's end: the log takes none that is older than what it has."""
    values = {**values, "known_at": int(datetime.fromisoformat(f"{town.night['ds']}T23:59:59+00:00").timestamp()) * 1_000_000 + 999_999}
    ledger = open_ledger(town.settings)
    records = [Record(**{**vars(record), "seq": 0, "key": f"fault-{record.seq}", **values}) for record in ledger.eligibility_since(0) if which(record)]
    if not ledger.append_eligibility(records):
        raise RuntimeError("the log did not take the fault")
    ledger.close()


# --- after it was sealed and judged ---------------------------------------------------------------------------------

def edit_payload(town: Town) -> None:
    path = town.release / names.PAYLOAD
    payload = Payload.model_validate_json(path.read_text())
    payload.files[names.TITLES].size += 1
    path.write_text(payload.model_dump_json())


def edit_card(town: Town) -> None:
    path = town.release / names.EVIDENCE / "card.md"
    path.write_text(path.read_text() + "\nEverything is fine.\n")


def edit_manifest(town: Town) -> None:
    path = town.release / names.MANIFEST
    manifest = Manifest.model_validate_json(path.read_text())
    path.write_text(manifest.model_copy(update={"compared_with": None}).model_dump_json())


def move_live(town: Town) -> None:
    """Rolled back while nobody looked: another release is live than the evidence compares with."""
    ledger = open_ledger(town.settings)
    other = "2026-01-01-0000000000"
    ledger.begin(other, "2026-01-01", "faults")
    for state in (names.State.BUILT, names.State.JUDGED, names.State.AWAITING_APPROVAL):
        ledger.move(other, state, "faults", "bench")
    proposed = ledger.propose(other, ledger.pointer().version)
    switched = ledger.switch(proposed.version, datetime.now(UTC) + timedelta(minutes=5))
    ledger.confirm(switched.version)
    ledger.close()

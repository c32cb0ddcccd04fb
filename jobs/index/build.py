"""`marquee index`: the release's item tower and the lake at its tag -> item_vectors.npy, titles.parquet,
transitions.parquet, cowatch.parquet, fallback.parquet and a checked Milvus collection.
"""

import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pymilvus import MilvusClient

from contracts import durable
from contracts.content import Content
from contracts.eligibility import Eligibility
from contracts.errors import MarqueeError, UsageError
from contracts.marts import tag_name
from contracts.release import (
    COWATCH,
    FALLBACK,
    ITEM_TOWER,
    ITEM_VECTORS,
    PROVENANCE,
    TITLES,
    TRANSITIONS,
    Provenance,
    collection_name,
    market_groups,
)
from contracts.settings import Settings
from contracts.split import TimeSplit
from jobs import receipts
from jobs.embed import Embedder
from jobs.index import catalogue, collection
from jobs.index.check import Checked, check
from jobs.index.config import IndexConfig
from jobs.index.cowatch import cowatch
from jobs.index.fallback import Popularity, fallback_rows
from jobs.index.transitions import transitions
from jobs.runtime import log, progress_visible, require_free_disk
from ledger import open_ledger

DAY_SECONDS = 86400.0


def run(settings: Settings, release_id: str, config: IndexConfig, files_only: bool = False) -> dict:
    """Builds everything that serving reads of the catalogue; a rerun writes equal bytes and keeps a right collection.
    `files_only`: without the collection, which is a cache of the files.

    Raises UsageError where the release was not begun or has no towers, MarqueeError where a check fails.
    """
    require_free_disk(settings)
    folder = settings.releases / release_id
    try:
        provenance = Provenance.model_validate_json((folder / PROVENANCE).read_text())
    except FileNotFoundError as error:
        raise UsageError(f"no release at {folder}: run `marquee release begin --ds <night>` first") from error
    tag, split = tag_name(provenance.tag.ds), provenance.tag.split

    embedder = Embedder(folder / ITEM_TOWER, settings.device, settings.threads)
    titles = catalogue.read_titles(settings, tag, split)
    table = catalogue.title_table(titles, embedder.id_titles, catalogue.read_counts(settings, tag, split))
    begin = time.monotonic()
    vectors_TD = embedder.embed([Content.of(row) for row in titles], table["id_index"].to_numpy(), config.embed_batch,
                                lambda steps: _watch(steps, "embed titles"))
    embedded = time.monotonic() - begin
    state = catalogue.eligibility(titles, catalogue.read_windows(settings, tag, split))
    plays = catalogue.read_plays(settings, tag, split)

    following, together = neighbour_tables(plays, split, config)
    orders = fallback_table(plays, table, state, split, config)
    _write_array(folder / ITEM_VECTORS, vectors_TD)
    at = catalogue.seconds(split.judge_end)
    for name, rows in ((TITLES, catalogue.with_windows(table, state, at)), (TRANSITIONS, following), (COWATCH, together),
                       (FALLBACK, orders)):
        _write_table(folder / name, rows)
    receipts.write(settings, release_id, "index", (ITEM_VECTORS, TITLES, TRANSITIONS, COWATCH, FALLBACK))
    if files_only:
        return {"release_id": release_id, "titles": len(table), "collection": None}

    wanted = collection.collection_rows(table["title_id"].to_pylist(), vectors_TD, state, at)
    client = collection.connect(settings)
    try:
        checked, kept = load_all(client, collection_name(release_id), wanted, state, at, config,
                                 users_of(settings, release_id))
    finally:
        client.close()
    return {
        "release_id": release_id, "titles": len(table), "id_titles": int((table["id_index"].to_numpy() > 0).sum()),
        "dimension": vectors_TD.shape[1], "transitions": len(following), "cowatch": len(together), "fallback_rows": len(orders),
        "markets": state.markets(), "collection": collection_name(release_id), "collection_kept": kept,
        "embed_seconds": round(embedded, 2), "checked": asdict(checked),
    }


def load_all(
    client: MilvusClient, name: str, rows: collection.Rows, state: Eligibility, at: int, config: IndexConfig,
    users: Sequence[str] = (),
) -> tuple[Checked, bool]:
    """`load_checked` of the collection of every group of markets, together. Raises MarqueeError too where no search in
    any of them returned a title."""
    looks, keeps = zip(*(load_checked(client, group, rows.of_markets(markets), state, at, config, users)
                         for group, markets in market_groups(name, rows.markets).items()), strict=True)
    checked = Checked(len(rows), *(sum(getattr(look, of) for look in looks) for of in ("vectors", "searches", "returned")),
                      min(look.recall for look in looks))
    if not checked.returned:
        raise MarqueeError(f"collection {name}: none of {checked.searches} filtered searches returned a title: no licence window is open")
    return checked, all(keeps)


def load_checked(
    client: MilvusClient, name: str, rows: collection.Rows, state: Eligibility, at: int, config: IndexConfig,
    users: Sequence[str] = (),
) -> tuple[Checked, bool]:
    """The collection's checks, and whether it was there already and right: then it stays, since it may be serving.

    A wrong one that has `users` (or an alias) is reported by MarqueeError and left alone.
    """
    def look() -> Checked:
        return check(client, name, rows, state, at, seed=config.seed, vectors=config.checked_vectors,
                     searches=config.checked_searches, size=config.search_size, minimum_recall=config.minimum_recall)

    if client.has_collection(name):
        try:
            client.load_collection(name)
            return look(), True
        except Exception as error:  # half loaded by a killed run, other fields, a wrong row: made anew all the same
            log.warning("index: collection %s is made anew: %s", name, error)
    collection.load(client, name, rows, config.insert_batch, users, lambda steps: _watch(steps, "load Milvus"))
    return look(), False


def users_of(settings: Settings, release_id: str) -> list[str]:
    """Who may be searching the release's collection now, by the ledger."""
    ledger = open_ledger(settings)
    pointer = ledger.pointer()
    users = [f"replica {replica.replica_id}" for replica in ledger.replicas() if release_id in replica.loaded]
    if pointer and release_id in (pointer.release_id, pointer.candidate):
        users.append(f"the {pointer.arm} pointer")
    return users


def neighbour_tables(plays: pa.Table, split: TimeSplit, config: IndexConfig) -> tuple[pa.Table, pa.Table]:
    """Transitions and co-watches, each with from_title, to_title, weight."""
    names, title_E = _coded(plays["title_id"])
    _, profile_E = _coded(plays["profile_id"])
    following = transitions(profile_E, title_E, _age_days(plays, split), config.transition_reach, config.transitions_per_title,
                            config.transition_half_life_days, config.transition_shrinkage)
    together = cowatch(profile_E, title_E, config)
    return _neighbours(names, *following), _neighbours(names, *together)


def _neighbours(names: pa.Array, source: np.ndarray, target: np.ndarray, weight: np.ndarray) -> pa.Table:
    return pa.table({"from_title": names.take(pa.array(source)), "to_title": names.take(pa.array(target)),
                     "weight": pa.array(weight, pa.float32())})


def fallback_table(plays: pa.Table, titles: pa.Table, state: Eligibility, split: TimeSplit, config: IndexConfig) -> pa.Table:
    """market, cohort, rank (from 1), title_id, score."""
    markets, ids = state.markets(), titles["title_id"].combine_chunks()
    if not markets:
        raise MarqueeError("no title has a licence window in any market: nothing could ever be shown")
    row_of = {title: row for row, title in enumerate(ids.to_pylist())}
    licensed: dict[str, list[int]] = {market: [] for market in markets}
    for (title, market), spans in state.windows.items():
        if spans and title in row_of:
            licensed[market].append(row_of[title])
    known = plays.filter(pc.is_in(plays["title_id"], ids))
    weight = 0.5 ** (_age_days(known, split) / config.fallback_half_life_days)
    popularity = Popularity(
        pc.fill_null(pc.index_in(known["market"], pa.array(markets, pa.string())), -1).to_numpy(),
        pc.index_in(known["title_id"], ids).to_numpy(),
        pc.fill_null(known["is_kids"], False).to_numpy(), weight,
    )
    launched = pc.fill_null(titles["launched_at"].cast(pa.int64()), 0).to_numpy() / 1e6
    maturity = pc.fill_null(titles["maturity"].cast(pa.float64()), float("nan")).to_numpy()
    parts = [
        pa.table({"market": [market] * len(rows), "cohort": [cohort] * len(rows),
                  "rank": pa.array(np.arange(1, len(rows) + 1), pa.int64()), "title_id": ids.take(pa.array(rows, pa.int64())),
                  "score": pa.array(score, pa.float64())}, schema=FALLBACK_SCHEMA)
        for market, cohort, rows, score in fallback_rows(
            popularity, markets, {m: np.array(rows, np.int64) for m, rows in licensed.items()}, launched, maturity,
            config.kids_maturity, config.fallback_world_share)
    ]
    return pa.concat_tables(parts).combine_chunks()


FALLBACK_SCHEMA = pa.schema([("market", pa.string()), ("cohort", pa.string()), ("rank", pa.int64()),
                             ("title_id", pa.string()), ("score", pa.float64())])


def _coded(column: pa.ChunkedArray) -> tuple[pa.Array, np.ndarray]:
    """Distinct values, sorted, and each row's index among them."""
    values = pa.array(sorted(pc.unique(column).to_pylist()), pa.string())
    return values, pc.index_in(column, values).to_numpy().astype(np.int64)


def _age_days(plays: pa.Table, split: TimeSplit) -> np.ndarray:
    """Days from each play to the end of the retriever's span."""
    times = plays["event_time"].cast(pa.timestamp("us", "UTC")).cast(pa.int64()).to_numpy() / 1e6
    return (split.retriever_end.timestamp() - times) / DAY_SECONDS


def _write_array(path: Path, array: np.ndarray) -> None:
    aside = path.with_name(f".{path.name}.new")
    with aside.open("wb") as file:
        np.save(file, np.ascontiguousarray(array, np.float32), allow_pickle=False)
    durable.publish(aside, path)


def _write_table(path: Path, table: pa.Table) -> None:
    """Equal rows, equal bytes: one thread writes one row group after the other."""
    aside = path.with_name(f".{path.name}.new")
    pq.write_table(table.combine_chunks(), aside, compression="zstd", store_schema=True)
    durable.publish(aside, path)


def _watch(steps: Iterable, what: str) -> Iterable:
    """A progress bar where a person watches."""
    if not progress_visible():
        return steps
    from rich.console import Console
    from rich.progress import track

    return track(list(steps), description=what, console=Console(stderr=True), transient=True)

"""Trains the ranker on the block that retriever and counts have not seen, and writes the release's ranker.txt (where
LambdaMART wins) and spec.json (last: its existence means that the build steps are done).

Reads only the night's tag, the training tables and the release's own files.
"""

import zlib
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from contracts import durable
from contracts import release as names
from contracts.errors import MarqueeError, UsageError
from contracts.marts import FEATURE_SERVICE, TITLE_FEATURES, tag_name
from contracts.neighbours import NeighbourTable
from contracts.release import Provenance, ReleaseSpec, collection_name, file_entry
from contracts.settings import Settings
from jobs import receipts
from jobs.lake import read
from jobs.ranker import tracking
from jobs.ranker.asof import EligibleAsOf, Plays, TitleFeaturesAsOf
from jobs.ranker.choose import Choice, choose
from jobs.ranker.config import RankerConfig
from jobs.ranker.places import attention_of
from jobs.ranker.pool import Catalogue, Pools, QueryTower, Request, requests_from
from jobs.ranker.rows import (
    NOTHING_SHOWN,
    Slate,
    TrainingRows,
    ValidationRows,
    effective_plays,
    mismatched_title_features,
    part_of,
    slates_from,
    training_rows,
    validation_rows,
    with_something_to_learn,
)
from jobs.runtime import log

INPUTS = (names.QUERY_TOWER, names.ITEM_VECTORS, names.TITLES, names.TRANSITIONS, names.COWATCH)


def run(settings: Settings, release_id: str, config: RankerConfig) -> dict[str, Any]:
    """Trains, writes, and records the run in MLflow; an index refresh keeps the ranker of its base."""
    provenance = _provenance(settings.releases / release_id)
    folder = settings.releases / release_id
    result = keep(settings, folder, provenance) if provenance.refresh else train(settings, release_id, config)
    receipts.write(settings, release_id, "ranker", (names.RANKER, names.SPEC))
    if not provenance.refresh:
        tracking.record(settings, provenance, config, result, folder)
    return result


def train(settings: Settings, release_id: str, config: RankerConfig) -> dict[str, Any]:
    """Writes ranker.txt and spec.json. Raises UsageError where the release was not begun or an earlier step has not run."""
    folder = settings.releases / release_id
    provenance = _provenance(folder)
    missing = [name for name in INPUTS if not (folder / name).exists()]
    if missing:
        raise UsageError(f"{folder} lacks {', '.join(missing)}: run `marquee towers` and `marquee index` first")
    split, ds = provenance.tag.split, provenance.day
    requests = sample(requests_from(read.training(settings, "requests", ds, role="ranker")), config)
    outside = [r.request_id for r in requests if not split.retriever_end <= r.context.moment < split.ranker_end]
    if outside:
        raise MarqueeError(f"{len(outside)} ranker requests of {ds} lie outside the ranker's block, {outside[0]} first")
    slates = _slates(settings, provenance, requests)
    marts = _Marts(settings, tag_name(ds))
    pools = load_pools(settings, folder, provenance, requests, marts, config)
    attention = attention_of(settings, provenance.tag, config.seed)
    log.info("attention by place: %s", attention.in_words())

    lists: dict[int, list[TrainingRows]] = {part: [] for part in range(config.validation_one_in)}
    asked: list[ValidationRows] = []
    judging = 1 if len(requests) >= config.one_part_from else config.validation_one_in
    differing = np.zeros(2, np.int64)
    for pool in pools.of(requests):
        slate = slates.get(pool.request.request_id, NOTHING_SHOWN)
        differing += mismatched_title_features(pool, slate)
        part = part_of(pool.request.profile.profile_id, config)
        lists[part].append(training_rows(pool, slate, attention, config))
        asked.append(validation_rows(pool, slate, attention, config, part if part < judging else None))
    if differing[0]:
        log.warning("title features of %d of %d shown titles differ from the feature store's", *differing)
    lists = {part: with_something_to_learn(rows) for part, rows in lists.items()}
    choice = choose(lists, asked, config, settings.threads)
    learnt = [rows for part in lists.values() for rows in part]
    choice = replace(choice, spec=choice.spec.model_copy(update={"attention": attention.as_json() | effective_plays(learnt)}))

    _write(folder, choice, _spec(folder, provenance, pools, marts.markets(split.judge_end), choice, config))
    return {
        "release_id": release_id, "kind": choice.spec.kind, "reason": choice.spec.reason,
        "ndcg_at_10": choice.spec.validation, "requests": len(requests), "training_requests": len(learnt),
        "validation_requests": sum(r.features_KR is not None for r in asked), "title_features_differing": int(differing[0]),
        "title_features_compared": int(differing[1]), "attention": attention.in_words(),
    }


def keep(settings: Settings, folder: Path, provenance: Provenance) -> dict[str, Any]:
    """Writes spec.json for the base's ranker over tonight's titles. Raises MarqueeError where ranker.txt is not the base's."""
    refresh, markets = provenance.refresh, _Marts(settings, tag_name(provenance.day)).markets(provenance.tag.split.judge_end)
    there = {names.RANKER: file_entry(folder / names.RANKER).sha256} if (folder / names.RANKER).is_file() else {}
    if there.get(names.RANKER) != refresh.models.get(names.RANKER):
        raise MarqueeError(f"{folder / names.RANKER} is not that of {refresh.of}: run `marquee release begin` again")
    spec = refresh.spec.model_copy(update={
        "release_id": provenance.release_id, "day": provenance.day, "collection": collection_name(provenance.release_id),
        "markets": markets, "counts_day": str(provenance.tag.split.counts_day),
    })
    _aside(folder / names.SPEC, spec.model_dump_json(indent=1) + "\n")
    return {"release_id": provenance.release_id, "kept_from": refresh.of, "kind": spec.ranker.kind, "reason": spec.ranker.reason}


def sample(requests: list[Request], config: RankerConfig) -> list[Request]:
    """Requests with something engaged with, at most `max_requests` by a stable hash, sorted by id."""
    useful = [r for r in requests if any(gain > 0 for gain in r.relevant.values())]
    by_hash = sorted(useful, key=lambda r: (zlib.crc32(f"{config.seed}:{r.request_id}".encode()), r.request_id))
    return sorted(by_hash[: config.max_requests], key=lambda r: r.request_id)


class _Marts:
    """The marts at the tag that the ranker reads."""

    def __init__(self, settings: Settings, tag: str):
        self.settings, self.tag = settings, tag
        self.licences = self.table("dim_licence_window", "title_id", "market", "opens_at", "closes_at", "revoked",
                                   "known_at", "superseded_at")

    def table(self, name: str, *columns: str) -> pa.Table:
        return read.table(self.settings, f"marts.{name}", tag=self.tag, columns=list(columns))

    def markets(self, night_end: datetime) -> list[str]:
        """Those of windows that held at the night's end: by these markets the collections were made (jobs/index)."""
        moment = pa.scalar(night_end, pa.timestamp("us", "UTC"))
        known, superseded = self.licences["known_at"], self.licences["superseded_at"]
        held = pc.and_(pc.less(known, moment), pc.invert(pc.fill_null(pc.less(superseded, moment), False)))
        return sorted(pc.unique(self.licences["market"].filter(held)).to_pylist())


def _provenance(folder: Path) -> Provenance:
    try:
        return Provenance.model_validate_json((folder / names.PROVENANCE).read_text())
    except FileNotFoundError:
        raise UsageError(f"{folder / names.PROVENANCE} is missing: run `marquee release begin --ds …` first") from None


def _slates(settings: Settings, provenance: Provenance, requests: list[Request]) -> dict[str, Slate]:
    """What each request was shown; empty for a source that logs no slates."""
    if not provenance.tag.has_impressions:
        return {}
    shown = read.training(settings, "impressions", provenance.day)
    mine = pa.array([r.request_id for r in requests], pa.string())
    return slates_from(shown.filter(pc.is_in(shown["request_id"], mine)))


def load_pools(
    settings: Settings, folder: Path, provenance: Provenance, requests: list[Request], marts: _Marts, config: RankerConfig
) -> Pools:
    catalogue = Catalogue.load(folder)
    default_length = int((provenance.recipe.get("towers") or {}).get("history_length", 200))
    return Pools(
        catalogue,
        QueryTower.load(folder / names.QUERY_TOWER, settings.threads, default_length),
        EligibleAsOf.from_marts(
            marts.table("dim_title_version", "title_id", "maturity", "known_at", "valid_from", "valid_to"),
            marts.licences, catalogue.index,
        ),
        TitleFeaturesAsOf.from_marts(
            marts.table("feat_title_daily", "title_id", "feature_time", "known_at", *TITLE_FEATURES), catalogue.index
        ),
        provenance.tag.split.counts_lag,
        Plays.from_marts(marts.table("fct_play", *Plays.COLUMNS), [r.profile.profile_id for r in requests]),
        _neighbours(folder / names.TRANSITIONS), _neighbours(folder / names.COWATCH),
        config.pool_size,
    )


def _neighbours(path: Path) -> NeighbourTable:
    table = pq.read_table(path)
    return NeighbourTable.from_arrays(*(table[c].to_pylist() for c in ("from_title", "to_title", "weight")))


def _spec(
    folder: Path, provenance: Provenance, pools: Pools, markets: list[str], choice: Choice, config: RankerConfig
) -> ReleaseSpec:
    return ReleaseSpec(
        release_id=provenance.release_id, day=provenance.day, dimension=pools.catalogue.vectors_TD.shape[1],
        history_length=pools.tower.history_length, collection=collection_name(provenance.release_id), markets=markets,
        feature_service=FEATURE_SERVICE, ranker=choice.spec, pool_size=config.pool_size,
        counts_day=str(provenance.tag.split.counts_day),
    )


def _write(folder: Path, choice: Choice, spec: ReleaseSpec) -> None:
    """The model first (or its absence), the spec last."""
    if choice.model is None:
        (folder / names.RANKER).unlink(missing_ok=True)
    else:
        _aside(folder / names.RANKER, choice.model)
    _aside(folder / names.SPEC, spec.model_dump_json(indent=1) + "\n")


def _aside(path: Path, text: str) -> None:
    durable.write(path, text)

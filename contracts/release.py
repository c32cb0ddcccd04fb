"""The release: names of its files, its identity, its digests, its states."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field

from contracts.tags import TagRecord

QUERY_TOWER = "query_tower.onnx"
ITEM_TOWER = "item_tower.onnx"
ITEM_VECTORS = "item_vectors.npy"  # (T,D) float32, row i is titles.parquet's row i
TITLES = "titles.parquet"  # sorted by title_id: content columns, TITLE_FEATURES as of the counts day, id_index, indexed windows
TRANSITIONS = "transitions.parquet"  # from_title, to_title, weight; sorted
COWATCH = "cowatch.parquet"  # from_title, to_title, weight; sorted
FALLBACK = "fallback.parquet"  # market, cohort (kids or general), rank, title_id, score; sorted
RANKER = "ranker.txt"  # LightGBM text model; absent for a blend
SPEC = "spec.json"  # ReleaseSpec: what serving needs to know to use the files
PROVENANCE = "provenance.json"  # lake tag, table hashes, code, recipe, seed, library versions
PAYLOAD = "payload.json"  # sizes and SHA-256 of all of the above and the payload digest; written when built
EVIDENCE = "evidence"  # folder: gates.json, metrics.json, golden.json, card.md, report.html
MANIFEST = "manifest.json"  # everything; written last

PAYLOAD_FILES = (QUERY_TOWER, ITEM_TOWER, ITEM_VECTORS, TITLES, TRANSITIONS, COWATCH, FALLBACK, RANKER, SPEC)
"""What serves: the payload digest covers these."""

CONTROL_ARM = "control"

MARKETS_A_COLLECTION = 30
"""Milvus allows 64 fields a collection (proxy.maxFieldNum): id, vector, maturity, and two for each market."""


class State(StrEnum):
    """`building → built → judged → awaiting_approval → probing → live → retired`, or one of the ends; `collected`: what
    serves was deleted, so that it can never be live again."""

    BUILDING = "building"
    BUILT = "built"
    JUDGED = "judged"
    AWAITING_APPROVAL = "awaiting_approval"
    PROBING = "probing"
    LIVE = "live"
    RETIRED = "retired"
    FAILED = "failed"
    BLOCKED = "blocked"
    REJECTED = "rejected"
    EXPIRED = "expired"
    SUPERSEDED = "superseded"
    ROLLED_BACK = "rolled_back"
    COLLECTED = "collected"


class RankerSpec(BaseModel):
    """`lambdamart` reads ranker.txt; `blend` is, in place of it, z(retrieval) + transition_weight * z(transition)
    + cowatch_weight * z(cowatch);
    `retrieval` keeps the retrieval order. `features` are the ordered names that the model was trained with."""

    kind: str
    features: list[str] = []
    transition_weight: float = 0.0
    cowatch_weight: float = 0.0
    reason: str = Field("", description="why this kind, for a person")
    validation: dict[str, float] = Field({}, description="NDCG@10 of what it was picked from, on held-out requests")
    picked: str = Field("", description="the name in `validation` of what ships")
    attention: dict[str, Any] = Field({}, description="attention by place of the logged slates (jobs/attention.py)")


class ReleaseSpec(BaseModel):
    """How serving uses the files of a release."""

    release_id: str
    day: str
    dimension: int
    history_length: int
    collection: str
    markets: list[str]
    feature_service: str
    ranker: RankerSpec
    pool_size: int = 500
    counts_day: str = ""

    @property
    def collections(self) -> dict[str, list[str]]:
        """The physical collections, `collection` the first, each with the markets that can be searched in it."""
        return market_groups(self.collection, self.markets)

    def collection_for(self, market: str) -> str | None:
        """Where a market is searched; None for a market that is newer than the release."""
        return next((name for name, markets in self.collections.items() if market in markets), None)


class Refresh(BaseModel):
    """An index refresh: the models of release `of`, byte by byte, over tonight's catalogue and counts."""

    of: str
    trained_by: str = Field(description="the release whose build trained the models: `of`, or what that refreshed")
    trained_day: str
    models: dict[str, str] = Field(description="file name to SHA-256: both towers, and the ranker where it is a model")
    spec: ReleaseSpec = Field(description="of release `of`: how its ranker and query tower are used")


class Provenance(BaseModel):
    """Where a release comes from; written first, by `marquee release begin`. The build steps read their day, tag and
    time split from it. `tables` are logical hashes; snapshot ids are annotations for reading."""

    release_id: str
    day: str
    tag: TagRecord
    training: TagRecord
    code: str
    recipe: dict[str, Any]
    seed: int
    libraries: dict[str, str]
    threads: int | None = None
    device: str | None = None
    refresh: Refresh | None = None

    @property
    def trained_by(self) -> str:
        """The release whose build trained the models that this one serves with."""
        return self.refresh.trained_by if self.refresh else self.release_id

    @property
    def trained_day(self) -> str:
        """The night of which they learnt."""
        return self.refresh.trained_day if self.refresh else self.day


class FileEntry(BaseModel):
    size: int
    sha256: str


class Payload(BaseModel):
    release_id: str
    files: dict[str, FileEntry]
    payload_digest: str


class Manifest(BaseModel):
    """Written last: its existence means that the release is complete. `annotations` are outside both digests."""

    format_version: int = 1
    release_id: str
    day: str
    payload: Payload
    evidence: dict[str, FileEntry]
    evidence_digest: str
    compared_with: str | None = Field(None, description="the live release that the evidence compares with")
    verdict: str = Field(description="passed or blocked")
    failed_gates: list[str] = []
    annotations: dict[str, Any] = {}


def canonical(value: Any) -> bytes:
    """One byte form for one value: sorted keys, no spaces, UTF-8."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def digest(value: Any) -> str:
    """SHA-256 of the canonical form."""
    return hashlib.sha256(canonical(value)).hexdigest()


def file_entry(path: Path) -> FileEntry:
    with path.open("rb") as file:
        return FileEntry(size=path.stat().st_size, sha256=hashlib.file_digest(file, "sha256").hexdigest())


def release_id(day: str, inputs: Mapping[str, Any]) -> str:
    """Day + short hash of the inputs (logical table hashes, code, recipe, seed): known before the build starts."""
    return f"{day}-{digest(dict(inputs))[:10]}"


_ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"})


def collection_name(release: str) -> str:
    """The physical Milvus collection of a release; Milvus allows letters, digits and underscores."""
    return "titles_" + release.replace("-", "_")


def titles_filter(title_ids: Iterable[str]) -> str:
    """The filter expression for these titles. `ids=` of pymilvus puts them into one without escaping: a quote or a
    backslash in an id would end or change the expression."""
    return "title_id in [" + ", ".join(f'"{title.translate(_ESCAPES)}"' for title in title_ids) + "]"


def market_groups(collection: str, markets: Iterable[str]) -> dict[str, list[str]]:
    """Collection -> markets, in order: every collection holds every title, and the windows of its own markets."""
    ordered = sorted(set(markets))
    groups = [ordered[i:i + MARKETS_A_COLLECTION] for i in range(0, len(ordered), MARKETS_A_COLLECTION)] or [[]]
    return {collection if not i else f"{collection}_{i + 1}": group for i, group in enumerate(groups)}


def payload_digest(files: Mapping[str, FileEntry]) -> str:
    """Covers names, sizes and hashes of what serves."""
    return digest({name: entry.model_dump() for name, entry in sorted(files.items())})


def evidence_digest(files: Mapping[str, FileEntry], payload: str, compared_with: str | None) -> str:
    """Covers the evidence files, the payload digest and the live release compared with."""
    return digest({"files": {n: e.model_dump() for n, e in sorted(files.items())}, "payload": payload, "live": compared_with})

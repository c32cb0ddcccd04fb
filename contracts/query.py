"""What the query tower reads, built the same way in training, judging and serving.

Shape suffixes: B requests, L history length, D vector width, E features of a history event, P profile features,
C context features.
"""

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np

MIN_GAP_SECONDS = 105.0
"""Gaps below this are one: a raw gap of 0 reveals "acted on the same page", which no request time can know."""

DEVICES = ("tv", "mobile", "tablet", "web")
EVENT_WIDTH = 6
PROFILE_WIDTH = 2 + 64
CONTEXT_WIDTH = len(DEVICES) + 1 + 4 + 1

QUERY_INPUTS = ("history_vectors", "history_features", "history_mask", "profile", "context")
QUERY_OUTPUT = "query"
"""Names of the ONNX query tower's inputs (B,L,D), (B,L,E), (B,L) float 0/1, (B,P), (B,C) and output (B,D), L2 norm 1."""

ITEM_INPUTS = ("content", "id_index")
ITEM_OUTPUT = "vector"
"""Names of the ONNX item tower's inputs (N,F) float32, (N,) int64 (0: no id embedding) and output (N,D), L2 norm 1."""

ID_TITLES = "id_titles"
"""Metadata of the item tower: JSON list of the titles that have an id embedding; the first has `id_index` 1."""

TEXT_ENCODER = "text_encoder"
"""Metadata of the item tower: JSON text, the name of the encoder whose text features it reads (jobs/text)."""

TEXT_STATE = "text_state"
"""Metadata of the item tower: JSON, what that encoder learnt from the catalogue; absent where it learns nothing."""

ITEM_TOWER_OF = "item_tower_sha256"
"""Metadata of the query tower: JSON text, SHA-256 of the item tower file that was trained with it."""


@dataclass(frozen=True)
class History:
    """What a profile watched, oldest first, everything known before the request. Unknown values are NaN."""

    title_ids: Sequence[str] = ()
    times: Sequence[float] = ()  # epoch seconds
    completion: Sequence[float] = ()
    rating: Sequence[float] = ()

    def __len__(self) -> int:
        return len(self.title_ids)


@dataclass(frozen=True)
class Profile:
    """Declared facts about who asks; an unknown maturity limit is the strictest."""

    profile_id: str
    market: str
    household_id: str = ""
    is_kids: bool = False
    maturity_limit: int = 0
    preferred_genres: Sequence[str] = ()
    language: str = ""
    attributes: Sequence[str] = ()


@dataclass(frozen=True)
class Context:
    """When and where the request is made."""

    moment: datetime
    device: str = ""
    surface: str = "home"


@dataclass
class ProfileFeatures:
    """The nightly aggregates of one profile (contracts.marts.PROFILE_FEATURES); missing: a cold profile."""

    values: dict = field(default_factory=dict)


def bucket(text: str, width: int) -> int:
    """A stable hash bucket in [0, width)."""
    return zlib.crc32(text.lower().encode()) % width


def event_features(times, next_times, completion, rating) -> np.ndarray:
    """(L,E) float32 of history events; `next_times` is when the following event, or the request, happened."""
    gap = np.maximum(np.asarray(next_times, np.float64) - np.asarray(times, np.float64), MIN_GAP_SECONDS)
    completion, rating = np.asarray(completion, np.float64), np.asarray(rating, np.float64)
    return np.stack([
        np.log2(gap / MIN_GAP_SECONDS) / 10.0,
        gap <= MIN_GAP_SECONDS,
        np.nan_to_num(completion),
        np.isnan(completion),
        np.nan_to_num(rating, nan=3.0) / 5.0,
        np.isnan(rating),
    ], axis=-1).astype(np.float32)


def profile_features(profile: Profile) -> np.ndarray:
    """(P,) float32: no profile id, so that a profile never seen is as good as its declared facts."""
    out = np.zeros(PROFILE_WIDTH, np.float32)
    out[0], out[1] = profile.is_kids, profile.maturity_limit / 18.0
    words = [f"market={profile.market}", f"language={profile.language or '?'}"]
    words += [f"genre={g}" for g in profile.preferred_genres or ()] + list(profile.attributes or ())
    for word in words:
        out[2 + bucket(word, PROFILE_WIDTH - 2)] += 1.0
    return out


def context_features(context: Context) -> np.ndarray:
    """(C,) float32: device, quarter of the day (UTC), weekend."""
    out = np.zeros(CONTEXT_WIDTH, np.float32)
    out[DEVICES.index(context.device) if context.device in DEVICES else len(DEVICES)] = 1.0
    out[len(DEVICES) + 1 + context.moment.hour // 6] = 1.0
    out[-1] = context.moment.weekday() >= 5
    return out


def query_inputs(history: History, vectors_ND: np.ndarray, profile: Profile, context: Context, length: int) -> dict[str, np.ndarray]:
    """The query tower's inputs for one request (B = 1): the newest `length` events, left-aligned, padded with zeros.

    `vectors_ND` are the item vectors of `history.title_ids`, row by row; the caller has left out titles without one.
    """
    if len(history) != len(vectors_ND):
        raise ValueError(f"{len(history)} history events and {len(vectors_ND)} vectors")
    n = min(len(history), length)
    width = vectors_ND.shape[1]
    vectors_LD = np.zeros((length, width), np.float32)
    features_LE = np.zeros((length, EVENT_WIDTH), np.float32)
    mask_L = np.zeros(length, np.float32)
    if n:
        times = np.asarray(history.times[-n:], np.float64)
        following = np.append(times[1:], context.moment.timestamp())
        vectors_LD[:n] = vectors_ND[-n:]
        features_LE[:n] = event_features(times, following, history.completion[-n:], history.rating[-n:])
        mask_L[:n] = 1.0
    rows = (vectors_LD, features_LE, mask_L, profile_features(profile), context_features(context))
    return {name: row[None] for name, row in zip(QUERY_INPUTS, rows, strict=True)}


def is_finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)

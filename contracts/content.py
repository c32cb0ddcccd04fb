"""What the item tower reads of a title: one fixed-width vector of its content, the same for the nightly build and for
a title that arrives later. Hashed features need no vocabulary file: a new genre or name has a bucket already.
"""

import re
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any

import numpy as np

TEXT, GENRES, CREDITS, OTHER = 512, 64, 256, 32
YEARS = np.arange(1920, 2041, 10)
CONTENT_WIDTH = TEXT + GENRES + CREDITS + OTHER + len(YEARS) + 3

_WORD = re.compile(r"[^\W\d_]{3,}")
_COMMON = frozenset(
    ["the", "and", "for", "with", "that", "this", "from", "are", "was", "were", "his", "her", "their", "its", "who", "has", "have", "had", "will", "one", "two", "into", "but", "not", "they", "which", "when", "while", "after", "film", "movie", "series", "directed", "starring", "stars", "based", "also", "about", "where", "them", "she", "him", "out"]
)


@dataclass(frozen=True)
class Content:
    """The content of one title, as the title version known at build time says it."""

    title_id: str
    name: str = ""
    synopsis: str = ""
    genres: Sequence[str] = ()
    credits: Sequence[str] = ()
    language: str = ""
    kind: str = ""
    series_id: str = ""
    year: int | None = None
    runtime_minutes: float | None = None
    maturity: int | None = None

    @classmethod
    def of(cls, row: Mapping) -> "Content":
        """From a row of `dim_title_version` or of titles.parquet; nulls and absent columns are empty."""
        return cls(**{f.name: row[f.name] for f in fields(cls) if row.get(f.name) is not None})


def in_force(versions: Iterable[Mapping], at: datetime) -> dict[str, Mapping]:
    """Title id → the version that holds just before `at`, of versions known by then; where none holds yet, the first
    that will."""
    chosen: dict[str, Mapping] = {}
    for row in sorted(versions, key=lambda row: row["valid_from"]):
        if row["title_id"] not in chosen or row["valid_from"] < at:
            chosen[row["title_id"]] = row
    return dict(sorted(chosen.items()))


def content_json(row: Mapping) -> dict[str, Any]:
    """One title version as plain JSON, the same from a landed record, a mart's row and titles.parquet: Content's fields
    and `launched_at` (epoch seconds), without the id; what is null or empty is absent."""
    values = {f.name: row.get(f.name) for f in fields(Content) if f.name != "title_id"}
    values |= {name: list(values[name]) for name in ("genres", "credits") if values[name] is not None}
    values |= {name: int(values[name]) for name in ("year", "maturity") if values[name] is not None}
    values |= {name: float(values[name]) for name in ("runtime_minutes",) if values[name] is not None}
    values["launched_at"] = epoch_seconds(row.get("launched_at"))
    return {name: value for name, value in values.items() if value is not None and value not in ("", [])}


def epoch_seconds(moment: datetime | None) -> float | None:
    """A moment without a zone is UTC, as everywhere."""
    return moment and (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _hashed(words: Iterable[str], width: int) -> np.ndarray:
    """Signed feature hashing (Weinberger et al., 2009) with sublinear counts, L2-normalised."""
    out = np.zeros(width, np.float32)
    counts: dict[str, int] = {}
    for word in words:
        counts[word] = counts.get(word, 0) + 1
    for word, count in counts.items():
        code = zlib.crc32(word.encode())
        out[code % width] += (1.0 if (code >> 31) & 1 else -1.0) * (1.0 + np.log(count))
    norm = float(np.linalg.norm(out))
    return out / norm if norm else out


def words(text: str) -> list[str]:
    """Lower-case words of three letters and more, without the commonest, cut to six letters as a crude stem."""
    return [w[:6] for w in _WORD.findall(text.lower()) if w not in _COMMON]


def content_features(content: Content) -> np.ndarray:
    """(F,) float32, F = CONTENT_WIDTH."""
    year = np.exp(-0.5 * ((YEARS - content.year) / 7.0) ** 2) if content.year else np.zeros(len(YEARS))
    scalars = [
        (content.maturity if content.maturity is not None else 18) / 18.0,
        np.log1p(content.runtime_minutes or 0.0) / 6.0,
        1.0,
    ]
    other = [f"language={content.language}", f"kind={content.kind}"]
    other += [f"series={content.series_id}"] if content.series_id else []
    parts = (
        _hashed(words(f"{content.name} {content.synopsis}"), TEXT),
        _hashed([g.lower() for g in content.genres or ()], GENRES),
        _hashed([c.lower() for c in content.credits or ()], CREDITS),
        _hashed(other, OTHER),
        year,
        scalars,
    )
    return np.concatenate(parts).astype(np.float32)


def content_matrix(contents: Sequence[Content]) -> np.ndarray:
    """(N,F) float32, row by row."""
    out = np.zeros((len(contents), CONTENT_WIDTH), np.float32)
    for i, content in enumerate(contents):
        out[i] = content_features(content)
    return out

"""What the item tower reads of a title: one fixed-width vector of its content, the same for the nightly build and for
a title that arrives later. Hashed features need no vocabulary file: a new genre or name has a bucket already.
"""

import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import numpy as np

TEXT, GENRES, CREDITS, OTHER = 512, 64, 256, 32
YEARS = np.arange(1920, 2041, 10)
CONTENT_WIDTH = TEXT + GENRES + CREDITS + OTHER + len(YEARS) + 3
"""With hashed words; another text encoder has another width."""

ROWS_AT_ONCE = 4096
"""Titles whose words are held together."""

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

    @property
    def text(self) -> str:
        """What a text encoder reads."""
        return f"{self.name} {self.synopsis}"

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


@lru_cache(2**18)
def _code(word: str) -> int:
    return zlib.crc32(word.encode())


def _hashed(words_N: Sequence[Iterable[str]], width: int) -> np.ndarray:
    """(N,width) float32: signed feature hashing (Weinberger et al., 2009) with sublinear counts, rows L2-normalised."""
    counts_N = [Counter(words) for words in words_N]
    row = np.repeat(np.arange(len(counts_N)), [len(counts) for counts in counts_N])
    code = np.array([_code(word) for counts in counts_N for word in counts], np.int64)
    count = np.array([count for counts in counts_N for count in counts.values()], np.float64)
    out = np.zeros((len(counts_N), width), np.float32)
    np.add.at(out, (row, code % width), (np.where(code >> 31 & 1, 1.0, -1.0) * (1.0 + np.log(count))).astype(np.float32))
    norm = np.linalg.norm(out, axis=1, keepdims=True)
    return out / np.where(norm > 0, norm, 1.0)


def words(text: str) -> list[str]:
    """Lower-case words of three letters and more, without the commonest, cut to six letters as a crude stem."""
    return [w[:6] for w in _WORD.findall(text.lower()) if w not in _COMMON]


@dataclass(frozen=True)
class TextEncoder:
    """Texts to (N,width) float32 rows of norm 1 (0 for a text that says nothing)."""

    name: str
    width: int
    encode: Callable[[Sequence[str]], np.ndarray]
    state: Mapping[str, Any] | None = None  # what it learnt, as plain JSON


HASHED_WORDS = TextEncoder("hashed words", TEXT, lambda texts: _hashed([words(text) for text in texts], TEXT))


def content_features(content: Content) -> np.ndarray:
    """(F,) float32, F = CONTENT_WIDTH."""
    return content_matrix([content])[0]


def content_matrix(contents: Sequence[Content], text: TextEncoder = HASHED_WORDS) -> np.ndarray:
    """(N,F) float32, row by row; F = content_width(text)."""
    out = np.empty((len(contents), content_width(text)), np.float32)
    for start in range(0, len(contents), ROWS_AT_ONCE):
        some = contents[start : start + ROWS_AT_ONCE]
        out[start : start + len(some)] = np.concatenate(_parts(some, text), axis=1)
    return out


def content_width(text: TextEncoder) -> int:
    return CONTENT_WIDTH - TEXT + text.width


def _parts(contents: Sequence[Content], text: TextEncoder) -> tuple[np.ndarray, ...]:
    """The groups of features side by side, (N,·) each."""
    year = np.array([[content.year or np.nan] for content in contents])
    scalars = [[(content.maturity if content.maturity is not None else 18) / 18.0, np.log1p(max(content.runtime_minutes or 0.0, 0.0)) / 6.0, 1.0]
               for content in contents]
    return (
        text.encode([content.text for content in contents]),
        _hashed([[g.lower() for g in content.genres or ()] for content in contents], GENRES),
        _hashed([[c.lower() for c in content.credits or ()] for content in contents], CREDITS),
        _hashed([[f"language={content.language}", f"kind={content.kind}",
                  *([f"series={content.series_id}"] if content.series_id else [])] for content in contents], OTHER),
        np.nan_to_num(np.exp(-0.5 * ((YEARS - year) / 7.0) ** 2)),
        np.array(scalars, np.float32),
    )

"""Synthetic profiles whose shelves a person can read: no real member's data, made from the catalogue alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import pyarrow as pa

from jobs.evaluation.shadow import Ask

PREFIX = "golden-"
WATCHED = 5
KIDS_LIMIT = 7


@dataclass(frozen=True)
class Golden:
    """One synthetic profile: who, and the titles watched, oldest first."""

    profile_id: str
    says: str
    market: str
    is_kids: bool
    maturity_limit: int
    preferred_genres: tuple[str, ...]
    watched: tuple[str, ...]
    device: str

    def ask(self, moment: datetime) -> Ask:
        return Ask(self.profile_id, self.profile_id, moment, self.device, "home")

    def request_row(self, moment: datetime, schema: pa.Schema) -> dict:
        """The row of training.requests that the shadow server hydrates from; nothing else is known of the profile."""
        known = {
            "request_id": self.profile_id, "profile_id": self.profile_id, "role": "judge", "event_time": moment,
            "market": self.market, "is_kids": self.is_kids, "maturity_limit": self.maturity_limit,
            "preferred_genres": list(self.preferred_genres), "device": self.device, "surface": "home", "language": "",
            "attributes": [], "relevant_titles": [], "relevant_gains": [],
        }
        return {name: known.get(name) for name in schema.names}

    def play_rows(self, moment: datetime) -> list[dict]:
        """A play an evening up to the day before."""
        times = [moment - timedelta(days=len(self.watched) - i) for i in range(len(self.watched))]
        return [
            {"profile_id": self.profile_id, "title_id": title, "event_time": at, "known_at": at, "completion": 1.0,
             "rating": None, "engaged": True}
            for title, at in zip(self.watched, times)
        ]


def golden_profiles(titles: pa.Table, markets: Sequence[str]) -> list[Golden]:
    """Six profiles over the first and last market: two new ones (one of them kids), fans of the two genres with most
    titles, a fan of one series (or of a third genre), and kids with a history."""
    if not markets or not titles.num_rows:
        return []
    first, last = markets[0], markets[-1]
    rows = _by_popularity(titles)
    suits_kids = [row for row in rows if row["maturity"] is not None and row["maturity"] <= KIDS_LIMIT]
    genres = _genres(rows)
    one, two, three = ([*genres, *genres, *genres] or ["", "", ""])[:3]
    series = _series(rows) or _fan(rows, three)
    return [
        Golden("golden-new", "new, nothing known", first, False, 18, (), (), "tv"),
        Golden("golden-new-kids", "new kids profile", first, True, KIDS_LIMIT, (), (), "tablet"),
        Golden("golden-fan-1", f"watched {one}, says so", first, False, 18, (one,), _fan(rows, one), "tv"),
        Golden("golden-fan-2", f"watched {two}", last, False, 18, (), _fan(rows, two), "mobile"),
        Golden("golden-series", "in the middle of a series" if _series(rows) else f"watched {three}", last, False, 18, (),
               series, "tv"),
        Golden("golden-kids", "kids with a history", last, True, KIDS_LIMIT, (),
               tuple(row["title_id"] for row in suits_kids[:WATCHED]), "tablet"),
    ]


def _by_popularity(titles: pa.Table) -> list[dict]:
    rows = titles.select(["title_id", "genres", "series_id", "maturity", "plays_30d"]).to_pylist()
    return sorted(rows, key=lambda row: (-(row["plays_30d"] or 0), row["title_id"]))


def _genres(rows: Sequence[dict]) -> list[str]:
    names, counts = np.unique([genre for row in rows for genre in row["genres"] or ()], return_counts=True)
    return [str(name) for _, name in sorted(zip(-counts, names))]


def _fan(rows: Sequence[dict], genre: str) -> tuple[str, ...]:
    return tuple(row["title_id"] for row in rows if genre in (row["genres"] or ()))[:WATCHED]


def _series(rows: Sequence[dict]) -> tuple[str, ...]:
    """The first half of the most played series that has three titles or more."""
    parts: dict[str, list[str]] = {}
    for row in rows:
        if row["series_id"]:
            parts.setdefault(row["series_id"], []).append(row["title_id"])
    longest = next((sorted(found) for found in parts.values() if len(found) >= 3), [])
    return tuple(longest[: max(1, len(longest) // 2)]) if longest else ()

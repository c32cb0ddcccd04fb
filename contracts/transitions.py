"""What is watched next after what: scores from the release's transition table, the same in ranking, judging, serving.

Sequential kNN: each of the newest events of a history votes for the titles that followed it in other histories; the
older the event, the weaker its vote.

Shape suffixes: E table entries, T titles that the table names, K candidates.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain

import numpy as np

HALF_LIFE_EVENTS = 1.0
"""A vote halves with every event that came after it; 1 was the best of 1..5 on MovieLens-1M by HR@10."""

NEWEST_EVENTS = 10
"""Older events would vote with less than a thousandth of the newest one's weight."""


@dataclass(frozen=True)
class TransitionTable:
    """Neighbours by title, in compressed rows: entries `starts[i]:starts[i + 1]` belong to `titles[i]`."""

    titles: list[str]  # T
    starts: np.ndarray  # (T+1,) int64
    to: np.ndarray  # (E,) int64, index into titles
    weight: np.ndarray  # (E,) float32
    _index: dict[str, int] = field(repr=False)

    @classmethod
    def from_arrays(
        cls, from_title: Sequence[str], to_title: Sequence[str], weight: Sequence[float] | np.ndarray
    ) -> "TransitionTable":
        """From the three columns of transitions.parquet, in any order; ValueError where their lengths differ."""
        if not len(from_title) == len(to_title) == len(weight):
            raise ValueError(f"columns of {len(from_title)}, {len(to_title)} and {len(weight)} transitions")
        titles = sorted(set(chain(from_title, to_title)))
        index = {title: i for i, title in enumerate(titles)}
        source = np.fromiter((index[t] for t in from_title), np.int64, len(from_title))
        target = np.fromiter((index[t] for t in to_title), np.int64, len(to_title))
        weights = np.asarray(weight, np.float32)
        order = np.lexsort((target, -weights, source))
        starts = np.searchsorted(source[order], np.arange(len(titles) + 1))
        return cls(titles, starts, target[order], weights[order], index)

    def neighbours(self, title_id: str) -> tuple[list[str], np.ndarray]:
        """Titles that followed `title_id`, strongest first, and their weights; empty where nothing is known."""
        row = self._row(title_id)
        return [self.titles[i] for i in self.to[row]], self.weight[row]

    def votes(self, history_title_ids: Sequence[str], half_life: float = HALF_LIFE_EVENTS) -> np.ndarray:
        """(T,) float32: the weighted votes of the newest events of a history (oldest first) for every title."""
        votes_T = np.zeros(len(self.titles), np.float32)
        for age, title_id in enumerate(reversed(history_title_ids[-NEWEST_EVENTS:])):
            row = self._row(title_id)
            votes_T[self.to[row]] += np.float32(0.5 ** (age / half_life)) * self.weight[row]
        return votes_T

    def top(self, history_title_ids: Sequence[str], count: int) -> list[str]:
        """The `count` titles with the most votes, strongest first; fewer where fewer have any."""
        votes_T = self.votes(history_title_ids)
        order = np.argsort(-votes_T, kind="stable")[:count]
        return [self.titles[i] for i in order if votes_T[i] > 0]

    def _row(self, title_id: str) -> slice:
        i = self._index.get(title_id)
        return slice(0, 0) if i is None else slice(self.starts[i], self.starts[i + 1])


def transition_scores(
    history_title_ids: Sequence[str], candidates: Sequence[str], table: TransitionTable,
    half_life: float = HALF_LIFE_EVENTS,
) -> np.ndarray:
    """(K,) float32 score of each candidate after a history (oldest first); 0 where nothing links them."""
    votes_T = table.votes(history_title_ids, half_life)
    return np.fromiter(
        (votes_T[i] if (i := table._index.get(title)) is not None else 0.0 for title in candidates),
        np.float32, len(candidates),
    )

"""Titles that go with titles: the release's tables of weights between pairs, read alike in ranking, judging, serving.

- transitions: what is watched next after what. Each of the newest events of a history votes for the titles that followed
  it in other histories; the older the event, the weaker its vote (sequential kNN).
- cowatch: what the same profiles watch, in any order. Every title of a history votes alike (EASE, Steck, WWW 2019).

Shape suffixes: E table entries, T titles that the table names, K candidates.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain

import numpy as np

HALF_LIFE_EVENTS = 1.0
"""A vote for what comes next halves with every event that came after it; 1 was the best of 1..5 on MovieLens-1M by HR@10."""

NEWEST_EVENTS = 10
"""Older events would vote for what comes next with less than a thousandth of the newest one's weight."""

COWATCH_EVENTS = 200
"""The newest titles that vote for what the same profiles watch: as many as the online history holds."""


@dataclass(frozen=True)
class NeighbourTable:
    """Neighbours by title, in compressed rows: entries `starts[i]:starts[i + 1]` belong to `titles[i]`."""

    titles: list[str]  # T
    starts: np.ndarray  # (T+1,) int64
    to: np.ndarray  # (E,) int64, index into titles
    weight: np.ndarray  # (E,) float32
    _index: dict[str, int] = field(repr=False)

    @classmethod
    def from_arrays(
        cls, from_title: Sequence[str], to_title: Sequence[str], weight: Sequence[float] | np.ndarray
    ) -> "NeighbourTable":
        """From the three columns of its file, in any order; ValueError where their lengths differ."""
        if not len(from_title) == len(to_title) == len(weight):
            raise ValueError(f"columns of {len(from_title)}, {len(to_title)} and {len(weight)} neighbours")
        titles = sorted(set(chain(from_title, to_title)))
        index = {title: i for i, title in enumerate(titles)}
        source = np.fromiter((index[t] for t in from_title), np.int64, len(from_title))
        target = np.fromiter((index[t] for t in to_title), np.int64, len(to_title))
        weights = np.asarray(weight, np.float32)
        order = np.lexsort((target, -weights, source))
        starts = np.searchsorted(source[order], np.arange(len(titles) + 1))
        return cls(titles, starts, target[order], weights[order], index)

    def neighbours(self, title_id: str) -> tuple[list[str], np.ndarray]:
        """The neighbours of `title_id`, strongest first, and their weights; empty where nothing is known."""
        row = self._row(title_id)
        return [self.titles[i] for i in self.to[row]], self.weight[row]

    def votes(self, history_title_ids: Sequence[str], half_life: float = HALF_LIFE_EVENTS, newest: int = NEWEST_EVENTS) -> np.ndarray:
        """(T,) float32: the votes of the `newest` events of a history (oldest first) for every title."""
        votes_T = np.zeros(len(self.titles))
        for age, title_id in enumerate(reversed(history_title_ids[-newest:])):
            row = self._row(title_id)
            votes_T[self.to[row]] += 0.5 ** (age / half_life) * self.weight[row]
        return votes_T.astype(np.float32)

    def top(self, history_title_ids: Sequence[str], count: int) -> list[str]:
        """The `count` titles with the most votes, strongest first; fewer where fewer have any."""
        votes_T = self.votes(history_title_ids)
        order = np.argsort(-votes_T, kind="stable")[:count]
        return [self.titles[i] for i in order if votes_T[i] > 0]

    def of(self, votes_T: np.ndarray, candidates: Sequence[str]) -> np.ndarray:
        """(K,) float32 votes for each candidate; 0 for titles that the table does not name."""
        return np.fromiter((votes_T[i] if (i := self._index.get(title)) is not None else 0.0 for title in candidates),
                           np.float32, len(candidates))

    def _row(self, title_id: str) -> slice:
        i = self._index.get(title_id)
        return slice(0, 0) if i is None else slice(self.starts[i], self.starts[i + 1])


NO_NEIGHBOURS = NeighbourTable.from_arrays([], [], [])


def transition_scores(
    history_title_ids: Sequence[str], candidates: Sequence[str], table: NeighbourTable,
    half_life: float = HALF_LIFE_EVENTS,
) -> np.ndarray:
    """(K,) float32 how much each candidate is watched next after a history (oldest first); 0 where nothing links them."""
    return table.of(table.votes(history_title_ids, half_life), candidates)


def cowatch_scores(history_title_ids: Sequence[str], candidates: Sequence[str], table: NeighbourTable) -> np.ndarray:
    """(K,) float32 how much profiles with this history (oldest first) watch each candidate; a title watched twice votes
    once, and a vote may be against."""
    distinct = list(dict.fromkeys(reversed(history_title_ids)))[:COWATCH_EVENTS]
    return table.of(table.votes(distinct, half_life=np.inf, newest=COWATCH_EVENTS), candidates)

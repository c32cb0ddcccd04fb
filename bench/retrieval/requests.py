"""The requests of a part of the data (validation or test): one a profile, after everything that stands before its rows.

Shape suffixes: Q requests, E interactions.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.retrieval.data import TEST, TRAIN, VALID, Dataset
from contracts.errors import UsageError
from jobs.evaluation.ranking import Pairs


@dataclass(frozen=True)
class Requests:
    """Q requests; a request's history are `length` rows from `first`, and its relevant rows follow."""

    first: np.ndarray  # (Q,)
    length: np.ndarray  # (Q,)
    relevant_count: np.ndarray  # (Q,)
    learns: np.ndarray  # (E,) bool: rows that a model of this part learns from
    title: np.ndarray  # (E,) of the data
    titles: int  # of the catalogue

    def __len__(self) -> int:
        return len(self.first)

    def spread(self, most: int) -> np.ndarray:
        """Rows of at most `most` requests, evenly spread: choices need no more."""
        return np.unique(np.linspace(0, len(self) - 1, min(most, len(self))).astype(np.int64))

    def batches(self, rows: np.ndarray, most: int) -> Iterator[np.ndarray]:
        """Rows in parts whose scores of all titles are at most `most` numbers."""
        yield from np.array_split(rows, -(-len(rows) // max(most // self.titles, 1)))

    def history(self, row: int) -> slice:
        return slice(self.first[row], self.first[row] + self.length[row])

    def seen(self, rows: np.ndarray) -> Pairs:
        """What is left out of each ranking: the history; nothing where a title of the history is asked for again, since its
        rivals would go and it would stay."""
        history = self._pairs(rows, self.first[rows], self.length[rows])
        left_out = ~np.isin(history.request, self._again(rows, history))
        return Pairs(history.request[left_out], history.title[left_out])

    def asking_again(self) -> int:
        """How many requests ask for a title of their history."""
        rows = np.arange(len(self))
        return len(self._again(rows, self._pairs(rows, self.first, self.length)))

    def _again(self, rows: np.ndarray, history: Pairs) -> np.ndarray:
        asked = self._asked(rows)
        one, other = (pairs.request * self.titles + pairs.title for pairs in (history, asked))
        return np.unique(asked.request[np.isin(other, one)])

    def relevant(self, rows: np.ndarray) -> Pairs:
        """Distinct relevant titles of each request."""
        pairs = self._asked(rows)
        _, one = np.unique(np.stack([pairs.request, pairs.title]), axis=1, return_index=True)
        one = np.sort(one)
        return Pairs(pairs.request[one], pairs.title[one])

    def _asked(self, rows: np.ndarray) -> Pairs:
        return self._pairs(rows, self.first[rows] + self.length[rows], self.relevant_count[rows])

    def _pairs(self, rows: np.ndarray, start: np.ndarray, count: np.ndarray) -> Pairs:
        request = np.repeat(np.arange(len(rows)), count)
        within = np.arange(len(request)) - np.repeat(np.cumsum(count) - count, count)
        return Pairs(request, self.title[np.repeat(start, count) + within])


GAPS = {"up to a minute": 60.0, "up to an hour": 3_600.0, "up to a day": 86_400.0, "above a day": np.inf}
"""Slices by the seconds since the last play of a history, each from where the one before ends."""


def by_gap(data: Dataset, requests: Requests) -> dict[str, np.ndarray]:
    """(Q,) bool of each slice; none where `ts` is only an order. A request without a history, or of a split that asks before it,
    is in no slice."""
    if not data.timed:
        return {}
    asked = requests.first + requests.length
    gap_Q = np.where(requests.length > 0, data.seconds[asked] - data.seconds[asked - 1], np.nan)
    gap_Q[gap_Q < 0] = np.nan
    slice_Q = np.searchsorted(list(GAPS.values()), gap_Q)  # NaN sorts last, behind every slice
    return {f"gap {name}": slice_Q == i for i, name in enumerate(GAPS) if np.any(slice_Q == i)}


def requests_of(data: Dataset, role: int, fit: str) -> Requests:
    """Of `VALID` or `TEST`; `fit` says whether what answers test requests has learnt from validation rows."""
    before = data.count(TRAIN) if role == VALID else data.count(TRAIN, VALID)
    wanted = data.count(role)
    asked = np.flatnonzero(wanted > 0)
    learns = data.role == TRAIN
    if role == TEST and fit == "train+valid":
        learns |= data.role == VALID
    return Requests(data.first()[asked], before[asked], wanted[asked], learns, data.title, len(data.title_ids))


def both_parts(data: Dataset, fit: str, source: Path) -> tuple[Requests, Requests]:
    """Requests of validation and test. Raises UsageError where one of them has none, or nothing is left to learn from."""
    valid, test = (requests_of(data, role, fit) for role in (VALID, TEST))
    if not len(valid) or not len(test):
        raise UsageError(f"{source}: {len(valid)} profiles have validation rows and {len(test)} test rows; both are needed")
    if not valid.learns.any():
        raise UsageError(f"{source}: no row is left to learn from, all of them are validation or test rows")
    return valid, test


def counts(valid: Requests, test: Requests) -> dict[str, int]:
    """What a result says of its requests."""
    return {"valid": len(valid), "test": len(test), "asking again": test.asking_again()}

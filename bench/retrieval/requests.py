"""The requests of a part of the data (validation or test): one a profile, after everything that stands before its rows.

Shape suffixes: Q requests, E interactions.
"""

from dataclasses import dataclass

import numpy as np

from bench.retrieval.data import TEST, TRAIN, VALID, Dataset
from jobs.evaluation.ranking import Pairs


@dataclass(frozen=True)
class Requests:
    """Q requests; a request's history are `length` rows from `first`, and its relevant rows follow."""

    first: np.ndarray  # (Q,)
    length: np.ndarray  # (Q,)
    relevant_count: np.ndarray  # (Q,)
    learns: np.ndarray  # (E,) bool: rows that a model of this part learns from
    title: np.ndarray  # (E,) of the data

    def __len__(self) -> int:
        return len(self.first)

    def history(self, row: int) -> slice:
        return slice(self.first[row], self.first[row] + self.length[row])

    def seen(self, rows: np.ndarray) -> Pairs:
        return self._pairs(rows, self.first[rows], self.length[rows])

    def relevant(self, rows: np.ndarray) -> Pairs:
        """Distinct relevant titles of each request."""
        pairs = self._pairs(rows, self.first[rows] + self.length[rows], self.relevant_count[rows])
        _, one = np.unique(np.stack([pairs.request, pairs.title]), axis=1, return_index=True)
        one = np.sort(one)
        return Pairs(pairs.request[one], pairs.title[one])

    def _pairs(self, rows: np.ndarray, start: np.ndarray, count: np.ndarray) -> Pairs:
        request = np.repeat(np.arange(len(rows)), count)
        within = np.arange(len(request)) - np.repeat(np.cumsum(count) - count, count)
        return Pairs(request, self.title[np.repeat(start, count) + within])


def requests_of(data: Dataset, role: int, fit: str) -> Requests:
    """Of `VALID` or `TEST`; `fit` says whether what answers test requests has learnt from validation rows."""
    before = data.count(TRAIN) if role == VALID else data.count(TRAIN, VALID)
    wanted = data.count(role)
    asked = np.flatnonzero(wanted > 0)
    learns = data.role == TRAIN
    if role == TEST and fit == "train+valid":
        learns |= data.role == VALID
    return Requests(data.first()[asked], before[asked], wanted[asked], learns, data.title)

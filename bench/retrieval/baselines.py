"""What everything must beat: popularity and sequential kNN, from the rows that a model of the same part learns from.

Shape suffixes: E interactions, Q requests, T titles.
"""

import numpy as np
from scipy.sparse import csr_matrix

from bench.retrieval.data import Dataset
from bench.retrieval.evaluate import Scores
from bench.retrieval.requests import Requests
from contracts.neighbours import COWATCH_EVENTS
from jobs.index.config import IndexConfig
from jobs.index.cowatch import cowatch as ease
from jobs.index.transitions import transitions

REACH, PER_TITLE = 5, 100
NEWEST_EVENTS, HALF_LIFE_EVENTS = 10, 1.0
"""As contracts/neighbours.py votes."""

Followers = tuple[np.ndarray, np.ndarray, np.ndarray]


def popularity(data: Dataset, requests: Requests) -> Scores:
    """Plays in training, whoever asks."""
    counts_T = np.bincount(data.title[requests.learns], minlength=requests.titles).astype(np.float32)
    return lambda rows: np.tile(counts_T, (len(rows), 1))


def sequential_knn(data: Dataset, requests: Requests, ordered: bool) -> Scores:
    """What followed the newest plays in other histories, nearer ones more; in sets, what was there too."""
    return votes(data, requests, followers(data, requests.learns, ordered), ordered)


def votes(data: Dataset, requests: Requests, found: Followers, ordered: bool) -> Scores:
    """Each of the newest plays votes for its followers, older ones with less; in sets all plays alike."""
    source, target, weight = found
    starts = np.searchsorted(source, np.arange(requests.titles + 1))

    def scores(rows: np.ndarray) -> np.ndarray:
        out_QT = np.zeros((len(rows), requests.titles), np.float32)
        for out_T, row in zip(out_QT, rows):
            newest = data.title[requests.history(row)][-NEWEST_EVENTS if ordered else 0 :]
            for age, title in enumerate(newest[::-1]):
                span = slice(starts[title], starts[title + 1])
                out_T[target[span]] += np.float32(0.5 ** (age / HALF_LIFE_EVENTS) if ordered else 1.0) * weight[span]
        return out_QT

    return scores


def followers(data: Dataset, learns_E: np.ndarray, ordered: bool) -> Followers:
    """From, to and weight of next-watch transitions in the rows that are learnt from."""
    mine = np.flatnonzero(learns_E)
    return transitions(data.profile[mine], data.title[mine], np.zeros(len(mine)),
                       REACH if ordered else NEWEST_EVENTS, PER_TITLE, shrinkage=20.0)


def cowatch(data: Dataset, requests: Requests) -> Scores:
    """What the same profiles watch, by the product's own table: each of the newest titles of a history votes once."""
    config, mine = IndexConfig(), np.flatnonzero(requests.learns)
    source, target, weight = ease(data.profile[mine], data.title[mine], config.cowatch_titles, config.cowatch_per_title,
                                  config.cowatch_regularization)
    table = csr_matrix((weight, (source, target)), shape=(requests.titles, requests.titles))

    def scores(rows: np.ndarray) -> np.ndarray:
        newest = [np.unique(data.title[requests.history(row)][::-1][:COWATCH_EVENTS]) for row in rows]
        ends = np.concatenate([[0], np.cumsum([len(titles) for titles in newest])])
        watched = csr_matrix((np.ones(ends[-1], np.float32), np.concatenate([np.zeros(0, np.int64), *newest]), ends),
                             shape=(len(rows), requests.titles))
        return (watched @ table).toarray()

    return scores

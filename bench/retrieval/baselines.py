"""What stands beside the towers, learnt from the same rows: popularity, kNN (what is watched next; in sets, what stands in the
same histories) and co-watch (EASE). All are tables from title to title of which the titles of a history have a vote.

Shape suffixes: E interactions, Q requests, T titles.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from scipy.sparse import csr_matrix, vstack

from bench.retrieval.data import Dataset
from bench.retrieval.evaluate import Scores, quality
from bench.retrieval.requests import Requests
from contracts.neighbours import COWATCH_EVENTS, HALF_LIFE_EVENTS, NEWEST_EVENTS
from jobs.index.config import IndexConfig
from jobs.index.cowatch import cowatch as ease
from jobs.index.cowatch import products
from jobs.index.tables import strongest
from jobs.index.transitions import transitions

REACH, PER_TITLE = 5, 100
COWATCH_TITLES, COWATCH_PER_TITLE = 16_000, 1000
"""More than a release holds: in sets of long histories the product's 200 a title lose half a percent of NDCG@10."""
REGULARIZATIONS, DROPOUTS = (30.0, 100.0, 300.0, 1000.0), (0.0, 0.33)
TITLES_TO_CHOOSE_BY = 4000
"""Regularisation and dropout are chosen by the most played titles: seconds, where all of them take minutes."""
KNN_SHRINKAGE = 10.0
"""Profiles beside those that two titles share: a pair that one profile played is no certainty."""
EVERYTHING = np.iinfo(np.int64).max


def popularity(data: Dataset, requests: Requests) -> Scores:
    """Plays in training, whoever asks."""
    plays_T = np.bincount(data.title[requests.learns], minlength=requests.titles).astype(np.float32)
    return lambda rows: np.tile(plays_T, (len(rows), 1))


def knn(data: Dataset, requests: Requests, table_TT: csr_matrix, ordered: bool) -> Scores:
    """In order the newest plays of a history vote, older ones with less, as contracts/neighbours.py counts; in sets all do."""
    return _sequential(data, requests, table_TT) if ordered else _alike(data, requests, table_TT, EVERYTHING)


def knn_table(data: Dataset, learns_E: np.ndarray, ordered: bool) -> csr_matrix:
    """(T,T) by which titles vote: what followed them, or what stands in the same sets."""
    return followers(data, learns_E) if ordered else cosine(data, learns_E)


def cowatch(data: Dataset, requests: Requests, table_TT: csr_matrix, ordered: bool) -> Scores:
    """Each title of a history votes once for what the same profiles watch; in order, as many as the product looks at."""
    return _alike(data, requests, table_TT, COWATCH_EVENTS if ordered else EVERYTHING)


def cowatch_table(data: Dataset, learns_E: np.ndarray, config: IndexConfig) -> csr_matrix:
    """(T,T) of EASE."""
    mine = np.flatnonzero(learns_E)
    return _table(data, ease(data.profile[mine], data.title[mine], config))


def cowatch_config(data: Dataset, valid: Requests, ordered: bool) -> IndexConfig:
    """The product's, with the regularisation and the dropout that validation likes best, and where one matrix leaves out a part
    of the plays, that matrix or each title from its nearest alone, whichever validation likes."""
    config = replace(IndexConfig(), cowatch_titles=COWATCH_TITLES, cowatch_per_title=COWATCH_PER_TITLE)
    tried = [replace(config, cowatch_regularization=regularization, cowatch_dropout=dropout)
             for dropout in DROPOUTS for regularization in REGULARIZATIONS]

    def worth(config: IndexConfig) -> float:
        return quality(valid, cowatch(data, valid, cowatch_table(data, valid.learns, config), ordered))

    chosen = max(tried, key=lambda config: worth(replace(config, cowatch_titles=TITLES_TO_CHOOSE_BY, cowatch_share=0.0)))
    plays_T = np.sort(np.bincount(learnt_matrix(data, valid.learns).indices))
    if plays_T[-COWATCH_TITLES:].sum() >= chosen.cowatch_share * plays_T.sum():
        return chosen
    return max((chosen, replace(chosen, cowatch_share=0.0)), key=worth)


def followers(data: Dataset, learns_E: np.ndarray) -> csr_matrix:
    """(T,T) what is watched next after what: the product's transitions, without their age."""
    mine = np.flatnonzero(learns_E)
    return _table(data, transitions(data.profile[mine], data.title[mine], np.zeros(len(mine)), REACH, PER_TITLE, shrinkage=20.0))


def cosine(data: Dataset, learns_E: np.ndarray) -> csr_matrix:
    """(T,T) cosine of two titles' sets of profiles, shrunk, the largest of each (item-based kNN; Sarwar et al., WWW 2001)."""
    sets_PT = learnt_matrix(data, learns_E)
    norm_T = np.sqrt(np.bincount(sets_PT.indices, minlength=sets_PT.shape[1]))

    def cosines(first: int, shared_BT: csr_matrix) -> csr_matrix:
        source = first + np.repeat(np.arange(shared_BT.shape[0]), np.diff(shared_BT.indptr))
        shared_BT.data /= norm_T[source] * norm_T[shared_BT.indices] + KNN_SHRINKAGE
        return _largest(shared_BT, first)

    return vstack([cosines(*rows) for rows in products(sets_PT.T.tocsr(), sets_PT)], format="csr", dtype=np.float32)


def _sequential(data: Dataset, requests: Requests, table_TT: csr_matrix) -> Scores:
    weight_N = np.float32(0.5) ** (np.arange(NEWEST_EVENTS, dtype=np.float32) / HALF_LIFE_EVENTS)

    def votes(row: int) -> tuple[np.ndarray, np.ndarray]:
        titles = data.title[requests.history(row)][::-1][:NEWEST_EVENTS]
        return titles, weight_N[: len(titles)]

    return _voted(table_TT, votes)


def _alike(data: Dataset, requests: Requests, table_TT: csr_matrix, newest: int) -> Scores:
    def votes(row: int) -> tuple[np.ndarray, np.ndarray]:
        titles = np.unique(data.title[requests.history(row)][::-1][:newest])
        return titles, np.ones(len(titles), np.float32)

    return _voted(table_TT, votes)


def _voted(table_TT: csr_matrix, votes: Callable[[int], tuple[np.ndarray, np.ndarray]]) -> Scores:
    """`votes` says which titles of a request's history vote, and with what."""
    def scores(rows: np.ndarray) -> np.ndarray:
        titles, weights = zip(*(votes(row) for row in rows))
        ends = np.concatenate([[0], np.cumsum([len(one) for one in titles])])
        return (csr_matrix((np.concatenate(weights), np.concatenate(titles), ends), shape=(len(rows), table_TT.shape[0])) @ table_TT).toarray()

    return scores


def learnt_matrix(data: Dataset, learns_E: np.ndarray) -> csr_matrix:
    """(P,T) 1 where a profile has a row of the title to learn from."""
    shape = len(data.profile_ids), len(data.title_ids)
    sets_PT = csr_matrix((np.ones(np.count_nonzero(learns_E), np.float32), (data.profile[learns_E], data.title[learns_E])), shape)
    sets_PT.data[:] = 1.0
    return sets_PT


def _largest(rows_BT: csr_matrix, first: int) -> csr_matrix:
    """The PER_TITLE largest of each row, without the title itself; row i is title `first + i`."""
    source = np.repeat(np.arange(rows_BT.shape[0]), np.diff(rows_BT.indptr))
    others = source + first != rows_BT.indices
    source, target, value = source[others], rows_BT.indices[others], rows_BT.data[others]
    kept = strongest(source, target, value, PER_TITLE)
    return csr_matrix((value[kept], (source[kept], target[kept])), rows_BT.shape)


def _table(data: Dataset, found: tuple[np.ndarray, np.ndarray, np.ndarray]) -> csr_matrix:
    source, target, weight = found
    return csr_matrix((weight, (source, target)), shape=(len(data.title_ids), len(data.title_ids)))

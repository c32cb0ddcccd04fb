"""The peers and the small grids that validation chooses from. Those with grids yield one candidate after the other.

Shape suffixes: E interactions, P profiles, Q requests, T titles, D factors.
"""

import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy import sparse

from bench.retrieval import baselines
from bench.retrieval.baselines import learnt_matrix
from bench.retrieval.data import Dataset
from bench.retrieval.evaluate import Scores
from bench.retrieval.requests import Requests

Answers = Callable[[Requests], Scores]
DENSE_TITLES = 20_000
"""A titles x titles matrix of this many takes 1.6 GB, and its inverse as much again."""
RECENT_HALF_LIFE = 5.0
"""Of a play's weight in `ease-recent`, in later plays (FACTS)."""


@dataclass(frozen=True)
class Candidate:
    """A fitted peer, the setting that made it, and the CPU seconds that this took."""

    setting: dict
    answers: Answers
    cpu_seconds: float


@dataclass(frozen=True)
class Peer:
    """`candidates(data, learns_E, seed, ordered)` of the grid; `again(..., setting)` fits one setting."""

    grid: list[dict]
    fit: Callable[..., Answers]
    why_not: Callable[[Dataset], str] = lambda data: ""
    takes_order: bool = False

    def candidates(self, data: Dataset, learns_E: np.ndarray, seed: int) -> Iterator[Candidate]:
        for setting in self.grid:
            yield self.again(data, learns_E, seed, setting)

    def again(self, data: Dataset, learns_E: np.ndarray, seed: int, setting: dict) -> Candidate:
        begin = time.process_time()
        answers = self.fit(data, learns_E, seed, **setting)
        return Candidate(setting, answers, time.process_time() - begin)


def grid(**values) -> list[dict]:
    """Every combination."""
    return [dict(zip(values, chosen, strict=True)) for chosen in product(*values.values())]


def histories(requests: Requests, rows: np.ndarray, half_life: float = 0.0) -> sparse.csr_matrix:
    """(Q,T) 1 for each title of the history, or halved for every `half_life` plays after it."""
    seen = requests.seen(rows)
    if not half_life:
        return _ones(seen.request, seen.title, len(rows), requests.titles)
    later = np.cumsum(requests.length[rows])[seen.request] - 1 - np.arange(len(seen.request))
    weight = (0.5 ** (later / half_life)).astype(np.float32)
    return sparse.csr_matrix((weight, (seen.request, seen.title)), (len(rows), requests.titles))


def _ones(row: np.ndarray, column: np.ndarray, rows: int, columns: int) -> sparse.csr_matrix:
    made = sparse.csr_matrix((np.ones(len(row), np.float32), (row, column)), (rows, columns))
    made.data[:] = 1.0  # a title watched twice counts once
    return made


def item_knn(data: Dataset, learns_E: np.ndarray, seed: int, weighting: str, neighbours: int) -> Answers:
    """Sums of similarities to the titles of the history (Deshpande & Karypis, 2004), as implicit weighs them."""
    from implicit import nearest_neighbours as nn

    kinds = {"cosine": nn.CosineRecommender, "tf-idf": nn.TFIDFRecommender, "bm25": nn.BM25Recommender}
    model = kinds[weighting](K=neighbours + 1)  # a title is its own nearest
    with warnings.catch_warnings(action="ignore"):  # implicit warns of the matrices that it weighs itself
        model.fit(learnt_matrix(data, learns_E), show_progress=False)
    similarity_TT = model.similarity.tocsr()
    return lambda requests: lambda rows: (histories(requests, rows) @ similarity_TT).toarray()


def als(data: Dataset, learns_E: np.ndarray, seed: int, **setting) -> Answers:
    """Implicit ALS (Hu et al., 2008); a request's factors are solved anew from its whole history."""
    from implicit.cpu.als import AlternatingLeastSquares

    model = AlternatingLeastSquares(**setting, iterations=15, random_state=seed)
    model.fit(learnt_matrix(data, learns_E), show_progress=False)

    def answers(requests: Requests) -> Scores:
        return lambda rows: model.recalculate_user(np.arange(len(rows)), histories(requests, rows)) @ model.item_factors.T

    return answers


def bpr(data: Dataset, learns_E: np.ndarray, seed: int, **setting) -> Answers:
    """BPR matrix factorisation (Rendle et al., 2009); factors are of the profile's rows that were learnt from."""
    from implicit.cpu.bpr import BayesianPersonalizedRanking

    matrix_PT = learnt_matrix(data, learns_E)
    model = BayesianPersonalizedRanking(**setting, factors=128, iterations=100, random_state=seed)
    model.fit(matrix_PT, show_progress=False)
    model.user_factors[np.diff(matrix_PT.indptr) == 0] = 0.0  # as they were drawn, they would be noise
    return lambda requests: lambda rows: model.user_factors[data.profile[requests.first[rows]]] @ model.item_factors.T


def ease(data: Dataset, learns_E: np.ndarray, seed: int, regularization: float, half_life: float = 0.0) -> Answers:
    """Item weights in closed form (Steck, 2019, algorithm 1)."""
    matrix_PT = learnt_matrix(data, learns_E)
    gram_TT = (matrix_PT.T @ matrix_PT).toarray().astype(np.float32)
    gram_TT[np.diag_indices_from(gram_TT)] += regularization
    weight_TT = np.linalg.inv(gram_TT)
    weight_TT /= -np.diag(weight_TT)
    np.fill_diagonal(weight_TT, 0.0)
    return lambda requests: lambda rows: histories(requests, rows, half_life) @ weight_TT


def sequential_knn(data: Dataset, learns_E: np.ndarray, seed: int) -> Answers:
    found_TT = baselines.followers(data, learns_E)
    return lambda requests: baselines.knn(data, requests, found_TT, ordered=True)


def too_many_titles(data: Dataset) -> str:
    titles = len(data.title_ids)
    return f"a dense matrix of {titles} x {titles} titles; {DENSE_TITLES} are the most" if titles > DENSE_TITLES else ""


SASREC = "sasrec"
"""Its libraries are in the peers' environment only: bench/peers/sasrec.py."""
REGULARIZATION = (100.0, 300.0, 1000.0)
PEERS = {
    "item-knn": Peer(grid(weighting=("cosine", "tf-idf", "bm25"), neighbours=(20, 50, 200)), item_knn),
    "als": Peer(grid(factors=(64, 128, 256), regularization=(1.0, 10.0, 30.0), alpha=(0.3, 1.0)), als),
    "bpr": Peer(grid(learning_rate=(0.01, 0.05), regularization=(0.001, 0.01)), bpr),
    "ease": Peer(grid(regularization=REGULARIZATION), ease, too_many_titles),
    "ease-recent": Peer(grid(regularization=REGULARIZATION, half_life=(RECENT_HALF_LIFE,)), ease, too_many_titles, takes_order=True),
    "sequential-knn": Peer([{}], sequential_knn, takes_order=True),
}

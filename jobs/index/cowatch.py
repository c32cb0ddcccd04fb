"""What the same profiles watch, in any order: EASE, the linear model of a profile's titles from its other titles, in closed
form (Steck, WWW 2019, algorithm 1). Serving reads it through contracts/neighbours.py.

Shape suffixes: E plays, P profiles, M titles modelled, N a title and its nearest, R rows of the table.
"""

from collections.abc import Iterator

import numpy as np
from scipy.linalg import lapack, solve
from scipy.sparse import csr_matrix

from jobs.index.config import IndexConfig
from jobs.index.tables import strongest

DECIMALS = 6
"""Of a weight: arithmetic of other processors ends in the same bytes."""

ROWS_AT_ONCE = 512
PRODUCTS_AT_ONCE = 20_000_000
LAPACK_TITLES = 2048
"""Much larger ones OpenBLAS (0.3.30 on SkylakeX) factorises past the end of its buffer: 16,000 end the process."""

Neighbours = tuple[np.ndarray, np.ndarray, np.ndarray]


def cowatch(profile_E: np.ndarray, title_E: np.ndarray, config: IndexConfig) -> Neighbours:
    """(R,) from, (R,) to, (R,) float32 weight, of either sign; sorted by from, then strongest, then to.

    `cowatch_regularization` is the ridge penalty, in profiles; `cowatch_dropout` makes the model complete histories of which
    that share is missing. The `cowatch_per_title` largest weights of each `from` stay, and those that are not 0.
    """
    watched = np.unique(np.stack([profile_E, title_E], axis=1).astype(np.int64), axis=0).reshape(-1, 2)
    matrix_PM, modelled_M = _most_played(watched, config.cowatch_titles)
    if matrix_PM.nnz >= config.cowatch_share * len(watched):
        found = _strongest(_ease(matrix_PM, config.cowatch_regularization, config.cowatch_dropout), config.cowatch_per_title)
    else:
        matrix_PM, modelled_M = _most_played(watched, config.cowatch_nearest_titles)
        source, target, weight = _regressions(matrix_PM, config)
        kept = strongest(source, target, np.abs(weight), config.cowatch_per_title)
        found = _rows(source[kept], target[kept], weight[kept])
    source, target, weight = found
    return modelled_M[source], modelled_M[target], weight


def _regressions(matrix_PM: csr_matrix, config: IndexConfig) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """From, to and weight where each title is modelled from its nearest alone, by the cosine of their sets of profiles: work
    and memory grow with the number of titles, those of one dense matrix (8 M² bytes, M³ multiplications) with its powers."""
    by_title = matrix_PM.tocsc()
    size_M = np.sqrt(np.maximum(np.diff(by_title.indptr), 1))
    sources, weights = [], []
    for first, together_BM in products(matrix_PM.T.tocsr(), matrix_PM):
        for own, row in enumerate(together_BM, first):
            others = row.indices != own
            ranked = np.lexsort((row.indices[others], -row.data[others] / size_M[row.indices[others]]))
            near_N = np.append(row.indices[others][ranked[: config.cowatch_nearest]], own)
            some_PN = by_title[:, near_N]
            sources.append(near_N[:-1])
            weights.append(_regression((some_PN.T @ some_PN).toarray(), config.cowatch_regularization, config.cowatch_dropout))
    target = np.repeat(np.arange(len(size_M)), [len(near) for near in sources])
    source, weight = (np.concatenate([np.zeros(0, int), *parts]) for parts in (sources, weights))
    return source, target, np.round(weight, DECIMALS)


def products(left_TP: csr_matrix, right_PT: csr_matrix) -> Iterator[tuple[int, csr_matrix]]:
    """The product's rows from the first on, as many as PRODUCTS_AT_ONCE multiplications make, and the number of the first."""
    work_T = np.cumsum(left_TP.astype(bool) @ np.diff(right_PT.indptr))
    cuts = np.unique(np.searchsorted(work_T, np.arange(0, work_T[-1] if len(work_T) else 0, PRODUCTS_AT_ONCE), side="right"))
    for a, b in zip([0, *cuts], [*cuts, len(work_T)]):
        if b > a:
            yield int(a), left_TP[a:b] @ right_PT


def _regression(gram_NN: np.ndarray, regularization: float, dropout: float) -> np.ndarray:
    """(N - 1,) weights of the last title from the others."""
    penalty_N = regularization + dropout / (1.0 - dropout) * np.diag(gram_NN)
    system_NN, wanted_N = gram_NN + np.diag(penalty_N), gram_NN[:, -1]
    if dropout:
        return solve(system_NN, wanted_N, assume_a="pos")[:-1]
    return solve(system_NN[:-1, :-1], wanted_N[:-1], assume_a="pos") if len(gram_NN) > 1 else np.zeros(0)


def _most_played(watched: np.ndarray, most_titles: int) -> tuple[csr_matrix, np.ndarray]:
    """(P,M) 1 where a profile played one of the M titles that most profiles played, and (M,) those titles."""
    profiles_T = np.bincount(watched[:, 1], minlength=1)
    modelled_M = np.sort(np.argsort(-profiles_T, kind="stable")[: min(most_titles, np.count_nonzero(profiles_T))])
    place_T = np.full(len(profiles_T), -1)
    place_T[modelled_M] = np.arange(len(modelled_M))
    watched = watched[place_T[watched[:, 1]] >= 0]
    _, rows = np.unique(watched[:, 0], return_inverse=True)
    shape = rows.max(initial=-1) + 1, len(modelled_M)
    return csr_matrix((np.ones(len(watched)), (rows, place_T[watched[:, 1]])), shape=shape), modelled_M


def _ease(matrix_PM: csr_matrix, regularization: float, dropout: float) -> np.ndarray:
    """(M,M) weight from row to column, 0 on the diagonal. Of the regularised Gram matrix's inverse P: -P_ij / P_jj, or with
    dropout -P_ij L_j of the penalties L = regularization + dropout / (1 - dropout) times a title's profiles (DLAE: Steck,
    NeurIPS 2020, section 3; without a constraint on the diagonal, as Moon et al., SIGIR 2023)."""
    titles = matrix_PM.shape[1]
    if not titles:
        return np.zeros((0, 0))
    weight_MM = (matrix_PM.T @ matrix_PM).toarray()
    penalty_M = regularization + dropout / (1.0 - dropout) * np.diag(weight_MM)
    weight_MM[np.diag_indices(titles)] += penalty_M  # positive definite by the ridge
    _invert(weight_MM)
    weight_MM *= -(penalty_M if dropout else 1.0 / np.diag(weight_MM))
    np.fill_diagonal(weight_MM, 0.0)
    return np.round(weight_MM, DECIMALS, out=weight_MM)


def _invert(matrix_MM: np.ndarray) -> None:
    """In place, a symmetric positive definite matrix: by halves (block inversion with the Schur complement), of which
    LAPACK inverts those of LAPACK_TITLES. Beside the matrix there are two of a quarter of its size."""
    half = len(matrix_MM) // 2
    if len(matrix_MM) <= LAPACK_TITLES:
        factor_MM, _ = lapack.dpotrf(matrix_MM, lower=1)
        inverse_MM, _ = lapack.dpotri(factor_MM, lower=1)
        matrix_MM[:] = np.tril(inverse_MM) + np.tril(inverse_MM, -1).T
        return
    upper, side, lower = matrix_MM[:half, :half], matrix_MM[half:, :half], matrix_MM[half:, half:]
    _invert(upper)
    moved = side @ upper
    lower -= moved @ side.T
    _invert(lower)
    np.matmul(lower, moved, out=side)
    upper += moved.T @ side
    side *= -1.0
    matrix_MM[:half, half:] = side.T


def _strongest(weight_MM: np.ndarray, per_title: int) -> Neighbours:
    """The largest of each row by size, as sorted rows of a table; equal ones by column."""
    titles = len(weight_MM)
    kept = [np.argsort(-np.abs(weight_MM[rows]), axis=1, kind="stable")[:, :per_title].ravel() for rows in _slices(titles)]
    target = np.concatenate([np.zeros(0, np.int64), *kept])
    source = np.repeat(np.arange(titles), min(per_title, titles))
    return _rows(source, target, weight_MM[source, target])


def _rows(source: np.ndarray, target: np.ndarray, weight: np.ndarray) -> Neighbours:
    weight = weight.astype(np.float32)
    some = weight != 0
    source, target, weight = source[some], target[some], weight[some]
    order = np.lexsort((target, -weight, source))
    return source[order], target[order], weight[order]


def _slices(titles: int) -> Iterator[slice]:
    """Rows that are worked on at once, so that there is only one dense matrix."""
    return (slice(start, min(start + ROWS_AT_ONCE, titles)) for start in range(0, titles, ROWS_AT_ONCE))

"""What the same profiles watch, in any order: EASE, the linear model of a profile's titles from its other titles, in closed
form (Steck, WWW 2019, algorithm 1). Serving reads it through contracts/neighbours.py.

Shape suffixes: E plays, M titles modelled, R rows of the table.
"""

from collections.abc import Iterator

import numpy as np
from scipy.linalg import lapack
from scipy.sparse import csr_matrix

DECIMALS = 6
"""Of a weight: arithmetic of other processors ends in the same bytes."""

ROWS_AT_ONCE = 512
LAPACK_TITLES = 2048
"""Much larger ones OpenBLAS (0.3.30 on SkylakeX) factorises past the end of its buffer: 16,000 end the process."""

Neighbours = tuple[np.ndarray, np.ndarray, np.ndarray]


def cowatch(profile_E: np.ndarray, title_E: np.ndarray, most_titles: int, per_title: int, regularization: float) -> Neighbours:
    """(R,) from, (R,) to, (R,) float32 weight, of either sign; sorted by from, then strongest, then to.

    The `most_titles` titles that most profiles played are modelled, since the matrix is dense (8 M² bytes, M³
    multiplications). `regularization` is the ridge penalty, in profiles. The `per_title` largest weights of each `from`
    stay, and those that are not 0.
    """
    watched = np.unique(np.stack([profile_E, title_E], axis=1).astype(np.int64), axis=0).reshape(-1, 2)
    profiles_T = np.bincount(watched[:, 1], minlength=1)
    modelled_M = np.sort(np.argsort(-profiles_T, kind="stable")[: min(most_titles, np.count_nonzero(profiles_T))])
    place_T = np.full(len(profiles_T), -1)
    place_T[modelled_M] = np.arange(len(modelled_M))
    watched = watched[place_T[watched[:, 1]] >= 0]
    weight_MM = _ease(watched[:, 0], place_T[watched[:, 1]], len(modelled_M), regularization)
    source, target, weight = _strongest(weight_MM, per_title)
    return modelled_M[source], modelled_M[target], weight


def _ease(profile_E: np.ndarray, title_E: np.ndarray, titles: int, regularization: float) -> np.ndarray:
    """(M,M) weight from row to column: -P_ij / P_jj of the regularised Gram matrix's inverse P, 0 on the diagonal."""
    if not titles:
        return np.zeros((0, 0))
    _, rows = np.unique(profile_E, return_inverse=True)
    matrix = csr_matrix((np.ones(len(title_E)), (rows, title_E)), shape=(rows.max() + 1, titles))
    weight_MM = (matrix.T @ matrix).toarray()
    weight_MM[np.diag_indices(titles)] += regularization  # positive definite by the ridge
    _invert(weight_MM)
    weight_MM /= -np.diag(weight_MM).copy()
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
    weight = weight_MM[source, target].astype(np.float32)
    some = weight != 0
    source, target, weight = source[some], target[some], weight[some]
    order = np.lexsort((target, -weight, source))
    return source[order], target[order], weight[order]


def _slices(titles: int) -> Iterator[slice]:
    """Rows that are worked on at once, so that there is only one dense matrix."""
    return (slice(start, min(start + ROWS_AT_ONCE, titles)) for start in range(0, titles, ROWS_AT_ONCE))

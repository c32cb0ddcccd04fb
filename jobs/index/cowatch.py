"""What the same profiles watch, in any order: EASE, the linear model of a profile's titles from its other titles, in closed
form (Steck, WWW 2019, algorithm 1). Serving reads it through contracts/neighbours.py.

Shape suffixes: E plays, M titles modelled, R rows of the table.
"""

import numpy as np
from scipy.linalg import lapack
from scipy.sparse import csr_matrix

DECIMALS = 6
"""Of a weight: arithmetic of other processors ends in the same bytes."""

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
    gram_MM = np.asfortranarray((matrix.T @ matrix).toarray())
    gram_MM[np.diag_indices(titles)] += regularization
    factor_MM, _ = lapack.dpotrf(gram_MM, lower=1, overwrite_a=1)  # positive definite by the ridge
    inverse_MM, _ = lapack.dpotri(factor_MM, lower=1, overwrite_c=1)
    inverse_MM = np.tril(inverse_MM, -1) + np.tril(inverse_MM).T
    weight_MM = inverse_MM / -np.diag(inverse_MM)
    np.fill_diagonal(weight_MM, 0.0)
    return np.round(weight_MM, DECIMALS)


def _strongest(weight_MM: np.ndarray, per_title: int) -> Neighbours:
    """The largest of each row by size, as sorted rows of a table; equal ones by column."""
    strength_MM = np.abs(weight_MM)
    kept = np.argsort(-strength_MM, axis=1, kind="stable")[:, :per_title]
    source = np.repeat(np.arange(len(weight_MM)), kept.shape[1])
    target = kept.ravel()
    weight = weight_MM[source, target].astype(np.float32)
    some = weight != 0
    source, target, weight = source[some], target[some], weight[some]
    order = np.lexsort((target, -weight, source))
    return source[order], target[order], weight[order]

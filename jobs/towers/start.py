"""Where the ids of titles start: near titles that the same profiles play. From vectors drawn at random, few or unordered plays
teach the towers hardly more than popularity.

Shape suffixes: E plays, P profiles, T titles, D vector width.
"""

import numpy as np
from scipy import sparse
from sklearn.utils.extmath import randomized_svd

LENGTH = 0.3
"""Of each start: long against what is drawn beside it, short enough to be moved."""
DECIMALS = 4
"""Of a number: arithmetic of other processors and threads ends in the same bytes."""


def spectral(profile_E: np.ndarray, title_E: np.ndarray, titles: int, dimension: int, seed: int) -> np.ndarray:
    """(T,D) float32: the leading right singular vectors, by their values, of the matrix of profiles and titles divided by the
    roots of both degrees (spectral embedding of a bipartite graph; Dhillon, KDD 2001), each row `LENGTH` long. The first
    one, which says no more than popularity, is left out. Zeros where nothing is known of a title."""
    pairs = np.unique(np.stack([profile_E, title_E], axis=1).astype(np.int64), axis=0).reshape(-1, 2)
    start_TD = np.zeros((titles, dimension), np.float32)
    profiles, row = np.unique(pairs[:, 0], return_inverse=True)
    found = min(dimension + 1, len(profiles), titles)
    if found < 2:
        return start_TD
    root_P, root_T = np.sqrt(np.bincount(row)), np.sqrt(np.bincount(pairs[:, 1], minlength=titles))
    matrix_PT = sparse.csr_array((1.0 / (root_P[row] * root_T[pairs[:, 1]]), (row, pairs[:, 1])), (len(profiles), titles))
    _, value_D, direction_DT = randomized_svd(matrix_PT, found, random_state=seed)
    vector_TD = (direction_DT[1:] * value_D[1:, None]).T
    norm_T1 = np.linalg.norm(vector_TD, axis=1, keepdims=True)
    known = norm_T1[:, 0] > 1e-6
    start_TD[known, : found - 1] = np.round(LENGTH * vector_TD[known] / norm_T1[known], DECIMALS)
    return start_TD

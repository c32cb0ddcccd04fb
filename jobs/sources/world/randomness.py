"""Random streams keyed by what they are for, so that one part drawing more numbers leaves the others as they were."""

import zlib

import numpy as np


def stream(seed: int, purpose: str, *keys: int) -> np.random.Generator:
    """The generator of (seed, purpose, keys): the same on every machine and in every order of calls."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, zlib.crc32(purpose.encode()), *keys])))


def pick_by_weight(rng: np.random.Generator, weights: np.ndarray, size: int) -> np.ndarray:
    """(size,) indices drawn with replacement in proportion to non-negative weights (N,)."""
    cumulative = np.cumsum(weights, dtype=np.float64)
    return np.minimum(np.searchsorted(cumulative, rng.random(size) * cumulative[-1], side="right"), len(weights) - 1)


def pick_per_row(rng: np.random.Generator, weights_BK: np.ndarray) -> np.ndarray:
    """(B,) one index a row in proportion to the row's weights."""
    cumulative = np.cumsum(weights_BK, axis=1, dtype=np.float64)
    return np.minimum((rng.random((len(cumulative), 1)) * cumulative[:, -1:] >= cumulative).sum(axis=1), weights_BK.shape[1] - 1)

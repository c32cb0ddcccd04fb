"""How sure a mean is: bootstrap over profiles, and what weights leave of a sample's size.

Shape suffixes: N requests, P profiles, S bootstrap samples, K systems.
"""

from collections.abc import Sequence
from copy import copy

import numpy as np


def effective_size(weight_N: np.ndarray) -> float:
    """Kish's effective sample size, (Σw)² / Σw²: as many equal weights would vary as much; 0 of none."""
    squares = float((weight_N**2).sum())
    return float(weight_N.sum()) ** 2 / squares if squares else 0.0


class PairedBootstrap:
    """Confidence bounds of mean differences, resampling whole profiles (Efron & Tibshirani, 1993, ch. 16): the
    requests of one profile are not independent. The same seed and profiles give the same bounds. Means are of equal weights
    unless `weighted` says otherwise."""

    def __init__(self, profiles: Sequence[str], samples: int, seed: int):
        self.weight_N = np.ones(len(profiles))
        names, self.profile_N = np.unique(np.asarray(profiles, dtype=object).astype(str), return_inverse=True)
        self.count = len(names)
        random = np.random.default_rng(seed)
        shares_P = np.full(self.count, 1.0 / max(1, self.count))
        drawn_SP = random.multinomial(self.count, shares_P, samples) if self.count else np.zeros((samples, 0))
        self.weights_SP = drawn_SP.astype(np.float32)

    def weighted(self, weight_N: np.ndarray) -> "PairedBootstrap":
        """The same draws, for means by these weights."""
        other = copy(self)
        other.weight_N = weight_N
        return other

    def error(self, difference_N: np.ndarray, rows: np.ndarray | None = None) -> float:
        """Standard error of the mean difference over `rows` (a mask; None: all)."""
        keep = np.ones(len(difference_N), bool) if rows is None else rows
        return float(self._means(difference_N, keep).std(ddof=1))

    def bounds(self, difference_N: np.ndarray, rows: np.ndarray | None = None, confidence: float = 0.95) -> tuple[float, float]:
        """One-sided lower and upper bounds of the mean difference over `rows` (a mask; None: all), each holding with
        `confidence`. NaN differences are left out. (NaN, NaN) where nothing is left."""
        keep = ~np.isnan(difference_N) if rows is None else rows & ~np.isnan(difference_N)
        if not keep.any():
            return float("nan"), float("nan")
        low, high = np.quantile(self._means(difference_N, keep), [1.0 - confidence, confidence])
        return float(low), float(high)

    def best(self, values_KN: np.ndarray) -> np.ndarray:
        """(S,) the row whose mean is highest in each sample; of equal ones the first."""
        everything = np.ones(values_KN.shape[1], bool)
        return np.stack([self._means(values_N, everything) for values_N in values_KN]).argmax(axis=0)

    def p_below(self, difference_N: np.ndarray, rows: np.ndarray, threshold: float, profiles: int) -> float:
        """One-sided p of "the mean difference over `rows` is at least `threshold`": Student's t with the bootstrap's
        standard error, since counting samples cannot show the small p that many slices ask for."""
        from scipy.stats import t

        mean, error = self.mean(difference_N, rows), self.error(difference_N, rows)
        if error == 0.0:
            return 1.0 if mean >= threshold else 0.0
        return float(t.cdf((mean - threshold) / error, profiles - 1))

    def mean(self, values_N: np.ndarray, keep: np.ndarray) -> float:
        """The weighted mean over the rows of a mask; NaN where they weigh nothing."""
        weight = float(self.weight_N[keep].sum())
        return float((values_N[keep] * self.weight_N[keep]).sum()) / weight if weight else float("nan")

    def _means(self, difference_N: np.ndarray, keep: np.ndarray) -> np.ndarray:
        """(S,) the mean of each sample that drew anything."""
        sum_P = np.bincount(self.profile_N[keep], difference_N[keep] * self.weight_N[keep], self.count)
        count_P = np.bincount(self.profile_N[keep], self.weight_N[keep], self.count)
        drawn_S = self.weights_SP @ count_P
        return (self.weights_SP @ sum_P)[drawn_S > 0] / drawn_S[drawn_S > 0]

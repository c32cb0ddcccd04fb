"""Figures of ranked lists, as pure functions of numpy arrays and title ids.

Shape suffixes: N requests, P profiles, S bootstrap samples.
"""

from collections.abc import Mapping, Sequence

import numpy as np

AT = 10
RECALL_AT = 200


def hit_rate(ranked: Sequence[str], relevant: Mapping[str, int], at: int = AT) -> float:
    """1 where any of the first `at` titles was engaged with."""
    return float(any(title in relevant for title in ranked[:at]))


def reciprocal_rank(ranked: Sequence[str], relevant: Mapping[str, int], at: int = AT) -> float:
    """1 / place of the first title that was engaged with, 0 below `at` (Voorhees, TREC-8, 1999)."""
    return next((1.0 / place for place, title in enumerate(ranked[:at], 1) if title in relevant), 0.0)


def ndcg(ranked: Sequence[str], relevant: Mapping[str, int], at: int = AT) -> float:
    """NDCG with gain 2^engagement - 1 and discount 1 / log2(1 + place) (Järvelin & Kekäläinen, 2002; gain of Burges et
    al., 2005). The ideal list holds everything engaged with, shown or not."""
    ideal = _dcg(sorted(relevant.values(), reverse=True)[:at])
    return _dcg([relevant.get(title, 0) for title in ranked[:at]]) / ideal if ideal else 0.0


def _dcg(gains: Sequence[int]) -> float:
    return float(sum((2.0**gain - 1.0) / np.log2(1.0 + place) for place, gain in enumerate(gains, 1)))


def recall(pool: Sequence[str], relevant: Mapping[str, int], at: int = RECALL_AT) -> float:
    """Share of what was engaged with that is among the first `at`; 0 where nothing was."""
    return len(set(pool[:at]) & set(relevant)) / len(relevant) if relevant else 0.0


def discounted_share(ranked: Sequence[str], weights: Mapping[str, float], of: int) -> float:
    """Mean of 1 / log2(1 + place) by weight: DCG over a whole order of `of` titles, of labels with weights,
    self-normalised (Schnabel et al., ICML 2016, with the normaliser of their SNIPS). Titles outside the list share the
    places after it: to count them as nothing would turn on who happens to stand at the end of the list."""
    if not weights:
        return 0.0
    place = {title: n for n, title in enumerate(ranked, 1)}
    after = np.arange(len(ranked) + 1, max(of, len(ranked) + 1) + 1)
    rest = float(np.mean(1.0 / np.log2(1.0 + after)))
    found = sum(weight * (1.0 / np.log2(1.0 + place[title]) if title in place else rest) for title, weight in weights.items())
    return float(found / sum(weights.values()))


def weighted_recall(pool: Sequence[str], weights: Mapping[str, float], at: int = RECALL_AT) -> float:
    """Share of the weight that is among the first `at`."""
    first = frozenset(pool[:at])
    return float(sum(w for title, w in weights.items() if title in first) / sum(weights.values())) if weights else 0.0


def coverage(shelves: Sequence[Sequence[str]], catalogue: int, at: int = AT) -> float:
    """Share of the catalogue that any shelf shows (Ge et al., RecSys 2010, catalogue coverage)."""
    return len({title for shelf in shelves for title in shelf[:at]}) / catalogue if catalogue else 0.0


def intra_list_diversity(shelf: Sequence[str], genres_of: Mapping[str, Sequence[str]], at: int = AT) -> float:
    """Mean of 1 - Jaccard of the genres over pairs of a shelf (Ziegler et al., WWW 2005); NaN below two titles."""
    sets = [frozenset(genres_of.get(title, ())) for title in shelf[:at]]
    pairs = [(a, b) for i, a in enumerate(sets) for b in sets[i + 1 :]]
    if not pairs:
        return float("nan")
    return float(np.mean([1.0 - (len(a & b) / len(a | b) if a | b else 1.0) for a, b in pairs]))


def miscalibration(
    shelf: Sequence[str], history: Sequence[str], genres_of: Mapping[str, Sequence[str]], at: int = AT, alpha: float = 0.01
) -> float:
    """KL divergence of the shelf's genre shares from the history's, smoothed by `alpha` (Steck, RecSys 2018, eq. 5);
    0 is calibrated, NaN without a history or a shelf."""
    wanted, shown = _genre_shares(history, genres_of), _genre_shares(shelf[:at], genres_of)
    if not wanted or not shown:
        return float("nan")
    return float(sum(p * np.log(p / ((1 - alpha) * shown.get(genre, 0.0) + alpha * p)) for genre, p in wanted.items()))


def _genre_shares(titles: Sequence[str], genres_of: Mapping[str, Sequence[str]]) -> dict[str, float]:
    shares: dict[str, float] = {}
    known = [genres_of[title] for title in titles if genres_of.get(title)]
    for genres in known:
        for genre in genres:
            shares[genre] = shares.get(genre, 0.0) + 1.0 / len(genres) / len(known)
    return shares


def popularity_share(shelves: Sequence[Sequence[str]], popular: frozenset[str], at: int = AT) -> float:
    """Share of places that popular titles hold."""
    places = [title in popular for shelf in shelves for title in shelf[:at]]
    return float(np.mean(places)) if places else 0.0


def effective_size(weight_N: np.ndarray) -> float:
    """Kish's effective sample size, (Σw)² / Σw²: as many equal weights would vary as much; 0 of none."""
    squares = float((weight_N**2).sum())
    return float(weight_N.sum()) ** 2 / squares if squares else 0.0


class PairedBootstrap:
    """Confidence bounds of mean differences, resampling whole profiles (Efron & Tibshirani, 1993, ch. 16): the
    requests of one profile are not independent. The same seed and profiles give the same bounds. `weight_N`: means are
    weighted by it (None: all alike)."""

    def __init__(self, profiles: Sequence[str], samples: int, seed: int, weight_N: np.ndarray | None = None):
        self.weight_N = np.ones(len(profiles)) if weight_N is None else weight_N
        names, self.profile_N = np.unique(np.asarray(profiles, dtype=object).astype(str), return_inverse=True)
        self.count = len(names)
        random = np.random.default_rng(seed)
        shares_P = np.full(self.count, 1.0 / max(1, self.count))
        drawn_SP = random.multinomial(self.count, shares_P, samples) if self.count else np.zeros((samples, 0))
        self.weights_SP = drawn_SP.astype(np.float32)

    def bounds(self, difference_N: np.ndarray, rows: np.ndarray | None = None, confidence: float = 0.95) -> tuple[float, float]:
        """One-sided lower and upper bounds of the mean difference over `rows` (a mask; None: all), each holding with
        `confidence`. NaN differences are left out. (NaN, NaN) where nothing is left."""
        keep = ~np.isnan(difference_N) if rows is None else rows & ~np.isnan(difference_N)
        if not keep.any():
            return float("nan"), float("nan")
        low, high = np.quantile(self._means(difference_N, keep), [1.0 - confidence, confidence])
        return float(low), float(high)

    def p_below(self, difference_N: np.ndarray, rows: np.ndarray, threshold: float, profiles: int) -> float:
        """One-sided p of "the mean difference over `rows` is at least `threshold`": Student's t with the bootstrap's
        standard error, since counting samples cannot show the small p that many slices ask for."""
        from scipy.stats import t

        means_S = self._means(difference_N, rows)
        mean, error = self.mean(difference_N, rows), float(means_S.std(ddof=1))
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

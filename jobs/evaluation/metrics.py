"""Figures of ranked lists, as pure functions of numpy arrays and title ids."""

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

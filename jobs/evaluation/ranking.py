"""Full-ranking figures from the places of relevant titles: every title of the catalogue competes, ties are settled by the
catalogue's order, so that equal scores give equal figures everywhere.

Shape suffixes: Q requests, T titles, R relevant titles of all requests, X excluded titles of all requests.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from contracts.errors import MarqueeError


@dataclass(frozen=True)
class Pairs:
    """Titles of requests as two columns: `request[i]` (row of the scores) and `title[i]` (column)."""

    request: np.ndarray
    title: np.ndarray


def exclude(scores_QT: np.ndarray, seen: Pairs, relevant: Pairs) -> None:
    """Writes -inf over what a request has seen, in place; a relevant title always competes."""
    wanted = scores_QT[relevant.request, relevant.title]
    scores_QT[seen.request, seen.title] = -np.inf
    scores_QT[relevant.request, relevant.title] = wanted


def places(scores_QT: np.ndarray, relevant: Pairs) -> np.ndarray:
    """(R,) int64 place of each relevant title from 0: the titles that score more, and the equal ones before it. Raises
    MarqueeError where a score is no number: nothing would score more."""
    if np.isnan(scores_QT).any():
        raise MarqueeError(f"{np.count_nonzero(np.isnan(scores_QT))} of {scores_QT.size} scores are no number")
    out_R = np.empty(len(relevant.title), np.int64)
    for i, (request, title) in enumerate(zip(relevant.request, relevant.title)):
        scores_T, own = scores_QT[request], scores_QT[request, title]
        out_R[i] = np.count_nonzero(scores_T > own) + np.count_nonzero(scores_T[:title] == own)
    return out_R


def top(scores_T: np.ndarray, k: int) -> np.ndarray:
    """(min(k, T),) columns of the best scores, best first, equal ones in the catalogue's order; never excluded ones."""
    k = min(k, int(np.count_nonzero(scores_T > -np.inf)))
    if not k:
        return np.zeros(0, np.int64)
    least = np.partition(scores_T, len(scores_T) - k)[len(scores_T) - k]
    above, equal = np.flatnonzero(scores_T > least), np.flatnonzero(scores_T == least)
    chosen = np.concatenate([above, equal[: k - len(above)]])
    return chosen[np.lexsort((chosen, -scores_T[chosen]))]


def figures(place_R: np.ndarray, request_R: np.ndarray, requests: int, ks: Sequence[int]) -> dict[str, np.ndarray]:
    """Per request, (Q,) each: `hr@k`, `recall@k`, `ndcg@k` (binary gain, discount 1 / log2(1 + place), the ideal list
    holds the relevant titles first; Järvelin & Kekäläinen, 2002) and `mrr` of the best placed. 0 without a relevant title."""
    relevant_Q = np.bincount(request_R, minlength=requests)
    order = np.lexsort((place_R, request_R))
    first = np.searchsorted(request_R[order], np.arange(requests))
    best_Q = np.full(requests, np.inf)
    best_Q[relevant_Q > 0] = place_R[order][first[relevant_Q > 0]]
    out = {"mrr": 1.0 / (1.0 + best_Q)}
    gain_R = 1.0 / np.log2(2.0 + place_R)
    for k in ks:
        found_R = place_R < k
        ideal = np.concatenate([[0.0], np.cumsum(1.0 / np.log2(2.0 + np.arange(min(k, max(relevant_Q.max(initial=1), 1)))))])
        found_Q = np.bincount(request_R[found_R], minlength=requests)
        dcg_Q = np.bincount(request_R[found_R], gain_R[found_R], minlength=requests)
        out[f"hr@{k}"] = (found_Q > 0).astype(float)
        out[f"recall@{k}"] = found_Q / np.maximum(relevant_Q, 1)
        out[f"ndcg@{k}"] = dcg_Q / np.maximum(ideal[np.minimum(relevant_Q, k)], ideal[1])
    return out


def bounds(values_Q: np.ndarray, seed: int, samples: int = 1000, confidence: float = 0.95) -> tuple[float, float]:
    """Two-sided bootstrap bounds of the mean over requests, one request a profile (Efron & Tibshirani, 1993, ch. 13)."""
    random = np.random.default_rng(seed)
    means = [values_Q[random.integers(len(values_Q), size=len(values_Q))].mean() for _ in range(samples)]
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)

"""The logging policy: which titles a session is shown, in which order, with which known probability.

A slate ranks a request's candidates by popularity, a noisy model of taste and noise. Then every slot independently,
with probability ε, shows instead a title drawn uniformly from the eligible titles that the ranking did not show. Given
the ranking, a ranked title's propensity at its place is therefore 1 - ε, an explored one's ε / (N - n) with N eligible
titles and n ranked ones: exactly what is logged.

Shape suffixes: B sessions of one audience (market and maturity limit), S slots, C candidates, N eligible titles, K topics.
"""

from dataclasses import dataclass

import numpy as np

EMPTY = -1
CANDIDATES_BY_POPULARITY, CANDIDATES_BY_TASTE = 28, 42


@dataclass
class Audience:
    """What one market and maturity limit may watch on a day, ready for drawing."""

    eligible_N: np.ndarray  # title indices
    may_show_T: np.ndarray  # bool per title
    popularity_N: np.ndarray  # hidden logits
    topic_TK: np.ndarray

    def __post_init__(self) -> None:
        weights_N = np.exp(self.popularity_N)
        self._by_popularity = np.cumsum(weights_N / weights_N.sum())
        weights_KN = (self.topic_TK[self.eligible_N].T.astype(np.float64) ** 3) * np.sqrt(weights_N) + 1e-9
        cumulative_KN = np.cumsum(weights_KN, axis=1)
        cumulative_KN /= cumulative_KN[:, -1:]
        self._by_topic = (cumulative_KN + np.arange(len(cumulative_KN))[:, None]).ravel()

    def __len__(self) -> int:
        return len(self.eligible_N)

    def draw_popular(self, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        """Title indices in proportion to popularity."""
        place = np.searchsorted(self._by_popularity, rng.random(shape), side="right")
        return self.eligible_N[np.minimum(place, len(self) - 1)]

    def draw_by_taste(self, rng: np.random.Generator, taste_BK: np.ndarray, each: int) -> np.ndarray:
        """(B,each) title indices: a topic in proportion to the taste, then a title of that topic."""
        cumulative_BK = np.cumsum(taste_BK, axis=1, dtype=np.float64)
        topics = taste_BK.shape[1]
        draws = rng.random((len(taste_BK), each)) * cumulative_BK[:, -1:]
        topic = np.minimum((draws[:, :, None] >= cumulative_BK[:, None, :]).sum(axis=2), topics - 1)
        place = np.searchsorted(self._by_topic, topic + rng.random(topic.shape), side="right") - topic * len(self)
        return self.eligible_N[np.clip(place, 0, len(self) - 1)]


@dataclass
class Slates:
    """(B,S) each; EMPTY titles are slots beyond a short slate's end."""

    title: np.ndarray
    propensity: np.ndarray
    explored: np.ndarray


def affinity(taste_BK: np.ndarray, topic_TK: np.ndarray, title: np.ndarray) -> np.ndarray:
    """Cosine of tastes (B,K) with the topics of titles (B,...) by row; EMPTY gives any value."""
    unit_BK = taste_BK / np.linalg.norm(taste_BK, axis=1, keepdims=True)
    flat = title.reshape(len(title), int(np.prod(title.shape[1:])))
    return np.einsum("bk,bck->bc", unit_BK, topic_TK[flat]).reshape(title.shape)


def rank(rng: np.random.Generator, audience: Audience, popularity_T: np.ndarray, believed_BK: np.ndarray,
         watched, size: int) -> np.ndarray:
    """(B,size) titles that the bootstrap policy ranks first. `believed_BK` is its noisy model of taste; `watched` maps
    (B,C) titles to bool."""
    rows = len(believed_BK)
    candidates_BC = np.concatenate([
        audience.draw_popular(rng, (rows, CANDIDATES_BY_POPULARITY)),
        audience.draw_by_taste(rng, believed_BK, CANDIDATES_BY_TASTE),
    ], axis=1)
    score_BC = (0.45 * popularity_T[candidates_BC] + 2.2 * affinity(believed_BK, audience.topic_TK, candidates_BC)
                + 0.5 * rng.gumbel(size=candidates_BC.shape))
    score_BC[repeats(candidates_BC) | watched(candidates_BC)] = -np.inf
    best_BS = np.argsort(-score_BC, axis=1, kind="stable")[:, :size]
    titles_BS = np.take_along_axis(candidates_BC, best_BS, axis=1)
    titles_BS[np.isneginf(np.take_along_axis(score_BC, best_BS, axis=1))] = EMPTY
    return titles_BS


def explore(rng: np.random.Generator, audience: Audience, ranked_BS: np.ndarray, epsilon: float) -> Slates:
    """Mixes exploration slots of known propensity into ranked slates (EMPTY at the end of short ones)."""
    title_BS = ranked_BS.copy()
    filled_BS = ranked_BS != EMPTY
    others_B = len(audience) - (filled_BS & audience.may_show_T[ranked_BS]).sum(axis=1)
    # a slate must leave at least as many titles unshown as it has slots, or drawing without repeats would be skewed
    may_explore_B = others_B >= ranked_BS.shape[1]
    explored_BS = filled_BS & (rng.random(ranked_BS.shape) < epsilon) & may_explore_B[:, None]
    waiting = explored_BS.copy()
    while waiting.any():
        row, slot = np.nonzero(waiting)
        title_BS[row, slot] = audience.eligible_N[rng.integers(0, len(audience), len(row))]
        drawn = title_BS[row, slot][:, None]
        shown_twice = ((drawn == title_BS[row]).sum(axis=1) > 1) | (drawn == ranked_BS[row]).any(axis=1)
        waiting[row, slot] = shown_twice
    propensity_BS = np.where(
        explored_BS,
        (epsilon / np.maximum(others_B, 1))[:, None],
        np.where(may_explore_B, 1 - epsilon, 1.0)[:, None],
    )
    return Slates(title_BS, propensity_BS, explored_BS)


def repeats(title_BC: np.ndarray) -> np.ndarray:
    """(B,C) bool: the title stands further left in the same row; EMPTY never repeats."""
    order = np.argsort(title_BC, axis=1, kind="stable")
    ordered = np.take_along_axis(title_BC, order, axis=1)
    again = np.zeros(title_BC.shape, bool)
    again[:, 1:] = (ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] != EMPTY)
    out = np.zeros_like(again)
    np.put_along_axis(out, order, again, axis=1)
    return out

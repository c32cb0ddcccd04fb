"""What is played soon after what: co-occurrence of a play with the next few of the same profile, nearer ones more
(sequential kNN; FACTS' best with the next five, 1/distance). Serving reads it through contracts/neighbours.py.

Shape suffixes: E plays, R rows of the table.
"""

import numpy as np

from jobs.index.tables import strongest


def transitions(
    profile_E: np.ndarray, title_E: np.ndarray, age_days_E: np.ndarray, reach: int, per_title: int,
    half_life_days: float = 0.0, shrinkage: float = 0.0,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(R,) from, (R,) to, (R,) float32 weight; sorted by from, then strongest first, then to.

    Plays are sorted by (profile, time). A pair counts 1/distance, halved for every `half_life_days` since its second
    play (0: never); a title does not follow itself. Weights are shares of all that followed a title (plus `shrinkage`,
    which keeps rare titles quiet): .01 NDCG@10 better than raw sums on MovieLens-1M's validation plays. The `per_title`
    strongest of each `from` stay.
    """
    titles = int(title_E.max(initial=-1)) + 1
    keys, weights = [np.zeros(0, np.int64)], [np.zeros(0)]
    recency_E = 0.5 ** (age_days_E / half_life_days) if half_life_days else np.ones(len(title_E))
    for distance in range(1, reach + 1):
        pair = (profile_E[distance:] == profile_E[:-distance]) & (title_E[distance:] != title_E[:-distance])
        keys.append(title_E[:-distance][pair].astype(np.int64) * titles + title_E[distance:][pair])
        weights.append(recency_E[distance:][pair] / distance)
    unique, place = np.unique(np.concatenate(keys), return_inverse=True)
    pairs = np.bincount(place, np.concatenate(weights), len(unique))
    source, target = (unique // titles, unique % titles) if titles else (unique, unique)
    weight = (pairs / (np.bincount(source, pairs, titles) + shrinkage)[source]).astype(np.float32)
    kept = strongest(source, target, weight, per_title)
    kept = kept[weight[kept] > 0]
    return source[kept], target[kept], weight[kept]

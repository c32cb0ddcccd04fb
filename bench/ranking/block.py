"""The rows that the ranker learns on: training's newest, which towers, counts and transitions of that part never learn.

A ranker that learns on what retrieval has learnt sees scores that are too good, and loses on later rows (FACTS).
"""

from dataclasses import replace

import numpy as np

from bench.retrieval.data import TRAIN, VALID, Dataset
from contracts.errors import UsageError

LARGEST_SHARE = 0.1
"""Of the training rows: short histories keep most of theirs for the towers."""
LATER = -1
"""The role of rows that do not exist yet where the ranker learns."""


def before_ranker(data: Dataset, profiles: int, seed: int) -> Dataset:
    """The data as it stood before the newest training row of at most `profiles` profiles: that row is what validation
    asks for, and everything after it does not exist. Profiles are drawn among those with another training row; UsageError
    where there are none."""
    count_P = data.count(TRAIN)
    if count_P.max(initial=0) < 2:
        raise UsageError("no profile has two training rows: a ranker learns from the newest, which the towers do without")
    most = min(profiles, max(int(LARGEST_SHARE * count_P.sum()), 1))
    drawn = np.random.default_rng(seed).permutation(np.flatnonzero(count_P >= 2))[:most]
    role = np.where(data.role == TRAIN, TRAIN, LATER).astype(np.int8)
    role[(data.first() + count_P - 1)[drawn]] = VALID
    return replace(data, role=role)

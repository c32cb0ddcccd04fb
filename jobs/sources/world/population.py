"""Who watches: households of one to five profiles, their cohorts, devices, hidden tastes that drift.

Shape suffixes: P profiles, K topics, C cohorts, H hours of a day, D devices.
"""

from dataclasses import dataclass

import numpy as np

from contracts.query import DEVICES
from jobs.sources.world.catalogue import K
from jobs.sources.world.randomness import pick_by_weight, pick_per_row, stream
from jobs.sources.world.recipes import WorldRecipe
from jobs.sources.world.words import LANGUAGES, MARKETS, TOPICS

HOUSEHOLD_SIZES = (0.34, 0.28, 0.18, 0.13, 0.07)  # shares of 1 to 5 profiles
KIDS_LIMITS = (7, 10)
ADULT_LIMITS = (13, 16, 18, 18, 18, 18)
LIMITS = tuple(sorted({*KIDS_LIMITS, *ADULT_LIMITS}))
COHORTS = 10


@dataclass
class Population:
    """Arrays over profiles (P,), in the order in which they join."""

    ids: np.ndarray  # str objects
    household_ids: np.ndarray  # str objects, per profile
    market: np.ndarray  # index into MARKETS
    is_kids: np.ndarray
    limit: np.ndarray  # maturity limit
    language: np.ndarray  # declared, index into LANGUAGES
    cohort: np.ndarray  # hidden
    activity: np.ndarray  # hidden: sessions a day
    joined_day: np.ndarray
    preferred_genres: list[list[str]]
    attributes: list[list[str]]
    device_PD: np.ndarray  # hidden: probabilities
    early_PK: np.ndarray  # hidden tastes at two ends of a drift, float32, rows sum to 1
    late_PK: np.ndarray
    period: np.ndarray  # hidden: days from one end to the other and back
    phase: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)

    def taste(self, rows: np.ndarray, day: float) -> np.ndarray:
        """(n,K) hidden tastes of the given profiles on that day; rows sum to 1."""
        late = 0.5 - 0.5 * np.cos(2 * np.pi * day / self.period[rows] + self.phase[rows])
        return (1 - late[:, None]) * self.early_PK[rows] + late[:, None] * self.late_PK[rows]

    def active_on(self, day: int) -> np.ndarray:
        """Indices of the profiles that have joined."""
        return np.flatnonzero(self.joined_day <= day)


def make(recipe: WorldRecipe, seed: int) -> Population:
    """The population of (recipe, seed), future joiners included."""
    rng = stream(seed, "population")
    per_day = recipe.profiles * recipe.new_profile_share
    starters = int(recipe.profiles - per_day * recipe.history_days)
    total = int(starters + per_day * (recipe.history_days + recipe.horizon_days))
    household, place = _households(rng, total)
    households = household[-1] + 1
    market = pick_by_weight(rng, np.array([m.size for m in MARKETS[: recipe.markets]]), households)[household]
    joined_day = _joined_days(recipe, household, starters, per_day)
    is_kids = (place > 0) & (rng.random(total) < 0.42)
    limit = np.where(is_kids, np.array(KIDS_LIMITS)[rng.integers(0, 2, total)], np.array(ADULT_LIMITS)[rng.integers(0, 6, total)])
    cohort = np.where(is_kids, 0, rng.integers(1, COHORTS, total))
    early, late = _tastes(rng, cohort, is_kids)
    native = np.array([LANGUAGES.index(m.language) for m in MARKETS])[market]
    language = np.where(rng.random(total) < 0.12, 0, native)
    activity = rng.gamma(0.9, 1.0, total) + 0.08
    activity *= recipe.sessions_per_day / activity[joined_day < recipe.history_days].sum()
    return Population(
        ids=np.array([f"p{i:07d}" for i in range(total)], object),
        household_ids=np.array([f"h{i:07d}" for i in household], object),
        market=market, is_kids=is_kids, limit=limit, language=language, cohort=cohort, activity=activity, joined_day=joined_day,
        preferred_genres=_declared(rng, early), attributes=_attributes(rng, cohort),
        device_PD=_devices(rng, is_kids, total), early_PK=early, late_PK=late,
        period=rng.uniform(60, 200, total), phase=rng.uniform(0, 2 * np.pi, total),
    )


def _households(rng: np.random.Generator, total: int) -> tuple[np.ndarray, np.ndarray]:
    """Per profile: the number of its household, and its place there."""
    sizes = 1 + pick_by_weight(rng, np.array(HOUSEHOLD_SIZES), total)
    household = np.repeat(np.arange(total), sizes)[:total]
    starts = np.concatenate([[0], np.cumsum(sizes)])
    return household, np.arange(total) - starts[household]


def _joined_days(recipe: WorldRecipe, household: np.ndarray, starters: int, per_day: float) -> np.ndarray:
    """A household joins as one, on the day of its first profile; starters on day 0."""
    own = np.maximum(0, (np.arange(len(household)) - starters) / max(per_day, 1e-9)).astype(int) + 1
    own[:starters] = 0
    first_of_household = np.searchsorted(household, household)
    return own[first_of_household]


def _tastes(rng: np.random.Generator, cohort: np.ndarray, is_kids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A cohort's centre and a few topics of one's own; drift leads from one such mixture to another."""
    kids_topics = np.array([t.for_kids for t in TOPICS])
    centres_CK = rng.dirichlet(np.full(K, 0.25), COHORTS)
    allowed = np.where(is_kids[:, None], np.where(kids_topics, 1.0, 0.02), np.where(kids_topics, 0.05, 1.0))

    def end() -> np.ndarray:
        own = rng.gamma(0.12, 1.0, (len(cohort), K))
        own /= own.sum(axis=1, keepdims=True) + 1e-12
        mixed = (0.3 * centres_CK[cohort] + 0.7 * own + 1e-4) * allowed
        return mixed / mixed.sum(axis=1, keepdims=True)

    early = end()
    late = 0.5 * early + 0.5 * end()
    return early.astype(np.float32), late.astype(np.float32)


def _declared(rng: np.random.Generator, taste_PK: np.ndarray) -> list[list[str]]:
    """Up to three first genres of topics drawn from the taste; a third of the profiles declare nothing."""
    picks = np.stack([pick_per_row(rng, taste_PK) for _ in range(3)], axis=1)
    number = np.where(rng.random(len(taste_PK)) < 0.33, 0, rng.integers(1, 4, len(taste_PK)))
    return [list(dict.fromkeys(TOPICS[t].genres[0] for t in row[:n])) for row, n in zip(picks.tolist(), number.tolist())]


def _attributes(rng: np.random.Generator, cohort: np.ndarray) -> list[list[str]]:
    """An age band that says a little about the cohort."""
    bands = ("under-13", "18-24", "25-34", "35-49", "50-64", "65-and-over")
    band = np.where(cohort == 0, 0, 1 + (cohort + rng.integers(0, 2, len(cohort))) % 5)
    return [[f"age={bands[b]}"] for b in band.tolist()]


def _devices(rng: np.random.Generator, is_kids: np.ndarray, total: int) -> np.ndarray:
    base = {"tv": 2.0, "mobile": 1.2, "tablet": 0.5, "web": 0.7}
    weights = np.tile([base[name] for name in DEVICES], (total, 1))
    weights[is_kids, DEVICES.index("tablet")] = 2.0
    shares = rng.gamma(weights * 0.6) + 1e-3
    return (shares / shares.sum(axis=1, keepdims=True)).astype(np.float32)

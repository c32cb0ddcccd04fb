"""A made-up service of any size: a catalogue with content, and plays that are skewed to few titles and follow tastes.

Titles are numbered by popularity. Shape suffixes: E plays, P profiles, A titles.
"""

from collections.abc import Sequence

import numpy as np

from contracts.content import Content, TextEncoder, content_matrix
from contracts.query import DEVICES, Profile, profile_features
from jobs.towers.dataset import MICROSECONDS, Plays, ProfileVersions
from jobs.towers.fit import TrainingData

TASTES = 64
IN_TASTE = 0.7
"""Share of a profile's plays that are of its own taste."""
SKEW = 0.9
"""Zipf's exponent: the hundredth title is played 1 / 63 as often as the first."""
MEAN_HISTORY = 5
DAYS = 30
HELD_OUT = 0.02
START = 1_767_225_600 * MICROSECONDS  # 2026-01-01

WORDS = [a + b + c for a in ("har", "lan", "mor", "sil", "tor", "ven", "wil", "kes") for b in ("bo", "de", "li", "ma", "no", "ra")
         for c in ("ck", "der", "gan", "l", "ne", "st", "th", "ver")]


class Catalogue(Sequence):
    """Contents made when they are asked for: a large catalogue's texts are never held together."""

    def __init__(self, titles: int, seed: int) -> None:
        self.titles, self.seed = titles, seed

    def __len__(self) -> int:
        return self.titles

    def __getitem__(self, rows):
        if isinstance(rows, slice):
            return [self[row] for row in range(*rows.indices(self.titles))]
        if rows >= self.titles:
            raise IndexError(rows)
        draw = np.random.default_rng((self.seed, rows)).integers(len(WORDS), size=32).tolist()
        taste = int(rows) % TASTES
        said = [WORDS[i] for i in draw[:28]] + [WORDS[taste]] * 2
        return Content(title_id(rows), " ".join(said[:3]), " ".join(said[3:]), [f"genre {taste % 16}", f"genre {16 + taste // 16}"],
                       [f"person {draw[i] * 7 + taste}" for i in (28, 29, 30)], "en", "movie", "", 1960 + draw[31] % 65, 90.0, 12)


def title_id(row: int) -> str:
    return f"t{row:07}"


def plays(titles: int, interactions: int, seed: int) -> tuple[Plays, int]:
    """Plays sorted by profile and time, and the number of profiles."""
    random = np.random.default_rng(seed)
    length_P = random.geometric(1 / MEAN_HISTORY, size=interactions)
    length_P = length_P[: np.searchsorted(np.cumsum(length_P), interactions) + 1]
    profile = np.repeat(np.arange(len(length_P)), length_P)[:interactions]
    weight_A = np.arange(1, titles + 1) ** -SKEW
    title = np.searchsorted(np.cumsum(weight_A) / weight_A.sum(), random.random(interactions)).clip(max=titles - 1)
    # the title of the profile's taste that is about as popular
    own = np.minimum(title // TASTES * TASTES + profile % TASTES, titles - 1)
    title = np.where(random.random(interactions) < IN_TASTE, own, title)
    time = START + (random.random(interactions) * DAYS * 86_400 * MICROSECONDS).astype(np.int64)
    time = time[np.lexsort((time, profile))]
    nothing = np.full(interactions, np.nan)
    made = Plays(profile, title, time, time, random.random(interactions), nothing, np.ones(interactions, bool),
                 random.integers(len(DEVICES), size=interactions))
    return made, len(length_P)


def training_data(catalogue: Catalogue, interactions: int, encoder: TextEncoder) -> TrainingData:
    """The newest plays are held out; of profiles the market is known."""
    made, profiles = plays(len(catalogue), interactions, catalogue.seed)
    someone, nobody = profile_features(Profile("", "AA")), profile_features(Profile("", ""))
    versions = ProfileVersions(np.arange(profiles), np.full(profiles, START - MICROSECONDS),
                               np.concatenate([np.tile(someone, (profiles, 1)), nobody[None]]))
    return TrainingData.until([title_id(row) for row in range(len(catalogue))], content_matrix(catalogue, encoder), made, versions,
                              int(np.quantile(made.time, 1 - HELD_OUT)))

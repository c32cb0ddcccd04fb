"""A small made-up service: titles of a few tastes, profiles that follow one, and plays known a little late."""

import numpy as np
import pytest

from contracts.content import Content, content_matrix
from contracts.query import Profile, profile_features
from jobs.towers.config import TowersConfig
from jobs.towers.dataset import MICROSECONDS, Plays, ProfileVersions
from jobs.towers.fit import TrainingData

DAY = 86_400 * MICROSECONDS
START = 1_767_225_600 * MICROSECONDS  # 2026-01-01

SMALL = TowersConfig(dimension=16, layers=1, heads=2, feed_forward=32, history_length=8, epochs=4, tokens_per_batch=256,
                     warm_up_steps=10, dropout=0.0, recall_at=5, learning_rate=5e-3)


def made_up(profiles: int = 120, titles: int = 40, length: int = 12, tastes: int = 4, seed: int = 0) -> TrainingData:
    """Profiles play titles of their taste one after the other; the last tenth of the days is held out."""
    random = np.random.default_rng(seed)
    profile = np.repeat(np.arange(profiles), length)
    step = np.tile(np.arange(length), profiles)
    taste = (profile * 7) % tastes
    title = (((step + profile * 3) % (titles // tastes)) * tastes + taste) % titles
    time = START + (step * 4 + random.random(len(step))) * DAY
    known = time + random.random(len(step)) * DAY / 2
    nan = np.full(len(step), np.nan)
    plays = Plays(profile, title, time.astype(np.int64), known.astype(np.int64), random.random(len(step)), nan,
                  np.ones(len(step), bool), np.full(len(step), 1))
    versions = ProfileVersions(np.arange(profiles), np.full(profiles, START - DAY),
                               np.stack([profile_features(Profile(f"p{i}", "AA")) for i in range(profiles)]
                                        + [profile_features(Profile("", ""))]))
    ids = [f"t{i:03}" for i in range(titles)]
    content = content_matrix([Content(t, name=f"Title {i}", genres=[f"taste {i % tastes}"], year=2000 + i % 20) for i, t in enumerate(ids)])
    return TrainingData.until(ids, content, plays, versions, int(np.quantile(time, 0.9)))


@pytest.fixture(scope="session")
def data() -> TrainingData:
    return made_up()

"""Where ids start: titles of the same profiles near each other, the same bytes from the same plays."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from contracts.errors import UsageError
from jobs.towers.config import TowersConfig
from jobs.towers.fit import Trainer
from jobs.towers.start import LENGTH, spectral
from tests.jobs.towers.conftest import SMALL


def two_tastes(random: np.random.Generator, stray: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """60 profiles play six titles of one half of a catalogue of 40, and `stray` of any."""
    taste = np.repeat(np.arange(60) % 2, 6)
    profile, title = np.repeat(np.arange(60), 6), taste * 20 + random.integers(20, size=360)
    return np.append(profile, random.integers(60, size=stray)), np.append(title, random.integers(40, size=stray))


def test_titles_of_the_same_profiles_start_near_each_other():
    profile, title = two_tastes(np.random.default_rng(0), stray=40)
    start_TD = spectral(profile, title, 40, 8, seed=7)
    assert start_TD.dtype == np.float32
    assert np.linalg.norm(start_TD, axis=1) == pytest.approx(LENGTH, abs=1e-3)
    cosine_TT = start_TD @ start_TD.T / LENGTH**2
    within, across = cosine_TT[:20, :20].mean(), cosine_TT[:20, 20:].mean()
    assert within > across + 0.3


def test_the_order_of_plays_and_their_number_change_nothing():
    random = np.random.default_rng(1)
    profile, title = two_tastes(random)
    order = random.permutation(np.tile(np.arange(len(profile)), 2))
    assert spectral(profile, title, 40, 8, 7).tobytes() == spectral(profile[order], title[order], 40, 8, 7).tobytes()


@pytest.mark.parametrize(("profile", "title"), [([], []), ([0], [0]), ([0, 0], [0, 1]), ([0, 1, 2], [2, 2, 2])])
def test_where_nothing_can_be_said_ids_start_as_drawn(profile, title):
    assert not spectral(np.array(profile, int), np.array(title, int), 3, 4, 7).any()


def test_fewer_profiles_than_numbers_leave_the_rest_zero_and_strangers_too():
    start_TD = spectral(np.array([0, 0, 1, 1, 2]), np.array([0, 1, 1, 2, 3]), 6, 16, 7)
    assert np.isfinite(start_TD).all()
    assert not start_TD[:, 2:].any()
    assert not start_TD[4:].any()


def test_training_starts_there_unless_told_otherwise(data):
    near, drawn = (Trainer(data, replace(SMALL, start=start), torch.device("cpu"), 1) for start in ("spectral", "random"))
    moved_TD = (near.towers.item.id.weight - drawn.towers.item.id.weight).detach().numpy()
    labels = near.windows
    profile = np.repeat(data.plays.profile[labels.start], np.diff(labels.label_start))
    expected_TD = spectral(profile, near.trained_A.numpy()[labels.target], len(near.rows_T), SMALL.dimension, SMALL.seed)
    assert moved_TD[1:] == pytest.approx(expected_TD, abs=1e-6)
    assert not moved_TD[0].any()
    with pytest.raises(UsageError, match="spectral, random"):
        TowersConfig(start="warm")

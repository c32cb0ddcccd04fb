"""Settings that follow from the shape of the data, never from its test rows."""

from collections.abc import Callable
from dataclasses import asdict

import numpy as np
import torch

from bench.retrieval.data import TRAIN, Dataset
from contracts.errors import UsageError
from jobs.towers.config import TowersConfig

LABELS_TO_SEE = 14_000_000
"""Labels times epochs that the towers learn from: 14 epochs of MovieLens-1M."""
EPOCHS = 4, 40
LONGEST_HISTORY = 200
LAYERS_FROM_LABELS = 20_000
"""Fewer labels than this do not fill two layers."""


def wide(data: Dataset, ordered: bool, seed: int) -> TowersConfig:
    """The product's towers at twice the width and twice the time: the default, by MovieLens-1M's validation rows."""
    return _sized(data, ordered, seed, layers=_layers(data), dimension=128, feed_forward=256)


def transformer(data: Dataset, ordered: bool, seed: int) -> TowersConfig:
    """The product's towers as a night trains them."""
    return _sized(data, ordered, seed, layers=_layers(data))


def pooled(data: Dataset, ordered: bool, seed: int) -> TowersConfig:
    """The cheap tower: averages that decay with recency in place of attention."""
    return _sized(data, ordered, seed, query="pooled", heads=4)


def quick(data: Dataset, ordered: bool, seed: int) -> TowersConfig:
    """A quarter of the epochs: for a look."""
    config = asdict(transformer(data, ordered, seed))
    return TowersConfig(**config | {"epochs": max(config["epochs"] // 4, 1)})


def _precision() -> str:
    """bfloat16 where this machine multiplies it: nobody rebuilds a result's bytes elsewhere."""
    able = torch.cpu.get_capabilities()
    return "bfloat16" if able.get("avx512_bf16") or able.get("amx_bf16") else "auto"


def _layers(data: Dataset) -> int:
    return 2 if np.sum(data.role == TRAIN) >= LAYERS_FROM_LABELS else 1


def _sized(data: Dataset, ordered: bool, seed: int, **more) -> TowersConfig:
    labels = max(int(np.sum(data.role == TRAIN)), 1)
    lengths = data.count(TRAIN)
    length = int(np.clip(np.quantile(lengths[lengths > 0], 0.95) if lengths.any() else 1, 8, LONGEST_HISTORY))
    return TowersConfig(
        seed=seed, ordered=ordered, history_length=length, epochs=int(np.clip(LABELS_TO_SEE // labels, *EPOCHS)),
        id_masking=0.3 if data.has_content else 0.0,  # without content a title is nothing but its id
        precision=_precision(), recall_at=10, **more,
    )


RECIPES: dict[str, Callable[[Dataset, bool, int], TowersConfig]] = {f.__name__: f for f in (wide, transformer, pooled, quick)}
DEFAULT = wide.__name__


def recipe(name: str) -> Callable[[Dataset, bool, int], TowersConfig]:
    """UsageError names the recipes that there are."""
    if name not in RECIPES:
        raise UsageError(f"--recipe {name}: there are {', '.join(RECIPES)}")
    return RECIPES[name]

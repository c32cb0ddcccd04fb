"""Score: candidates get the release's ranking score, by the one ranking-feature function.

Shape suffixes: K candidates.
"""

import importlib
import sys
from pathlib import Path
from typing import Protocol

import numpy as np

from contracts.errors import MarqueeError
from contracts.features import RANKING_FEATURES, Asker, Candidates, blend_scores, ranking_features
from contracts.release import RankerSpec


def _lightgbm_without_sklearn():
    """LightGBM imports scikit-learn, where it is there, for wrappers that serving has no use for: most of the start-up
    time, and 60 MB."""
    if "lightgbm" in sys.modules or "sklearn" in sys.modules:
        return importlib.import_module("lightgbm")
    sys.modules["sklearn"] = None
    try:
        return importlib.import_module("lightgbm")
    finally:
        del sys.modules["sklearn"]


lgb = _lightgbm_without_sklearn()


class RankerMismatch(MarqueeError):
    """A ranker that was trained with other features than the ranking-feature function gives."""


class Ranker(Protocol):
    def score(self, asker: Asker, candidates: Candidates) -> np.ndarray:
        """(K,) float64; higher is better."""


class LambdaMart:
    """LightGBM on the ranking features."""

    def __init__(self, path: Path, features: list[str]):
        self._model = lgb.Booster(model_file=path)
        names = self._model.feature_name()
        for claimed in (features, names):
            if list(claimed) != list(RANKING_FEATURES):
                odd = sorted(set(claimed) ^ set(RANKING_FEATURES)) or "their order"
                raise RankerMismatch(f"{path}: trained with other ranking features than this code computes: {odd}")

    def score(self, asker: Asker, candidates: Candidates) -> np.ndarray:
        return self._model.predict(ranking_features(asker, candidates), num_threads=1)


class Blend:
    """z(retrieval) + weighted z(transition) + weighted z(cowatch): nothing learnt, hard to beat."""

    def __init__(self, transition_weight: float, cowatch_weight: float):
        self._weights = transition_weight, cowatch_weight

    def score(self, asker: Asker, candidates: Candidates) -> np.ndarray:
        return blend_scores(candidates.retrieval_score, candidates.transition_score, candidates.cowatch_score, *self._weights)


class RetrievalOrder:
    """The retrieval score as it is."""

    def score(self, asker: Asker, candidates: Candidates) -> np.ndarray:
        return np.asarray(candidates.retrieval_score, np.float64)


def open_ranker(spec: RankerSpec, path: Path) -> Ranker:
    """The ranker that the release's spec names; RankerMismatch where this code must not run it."""
    match spec.kind:
        case "lambdamart":
            return LambdaMart(path, spec.features)
        case "blend":
            return Blend(spec.transition_weight, spec.cowatch_weight)
        case "retrieval":
            return RetrievalOrder()
    raise RankerMismatch(f"{path.parent}: unknown ranker kind {spec.kind!r}")

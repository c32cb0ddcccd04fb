"""Trains the candidates for the place of ranker and picks one by NDCG@10 over whole pools of held-out profiles.

Shape suffixes: K candidates, N candidates of all validation requests, R ranking features, S training rows.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import lightgbm
import numpy as np

from contracts.features import RANKING_FEATURES, blend_scores
from contracts.release import RankerSpec
from jobs.ranker.config import RankerConfig
from jobs.ranker.rows import TrainingRows, ValidationRows

AT = 10
LABEL_GAIN = (0, 1, 3, 7)
"""Gain 2^engagement - 1 of engagement 0..3, in training and in NDCG (Burges et al., 2005)."""


@dataclass(frozen=True)
class Choice:
    """The ranker that ships: its spec and, for lambdamart, its model text."""

    spec: RankerSpec
    model: str | None


def ndcg(scores_K: np.ndarray, gain_K: np.ndarray, relevant_gains: np.ndarray, at: int = AT) -> float:
    """NDCG@at with gain 2^g - 1 and discount 1 / log2(1 + place) (Järvelin & Kekäläinen, 2002). The ideal list holds
    everything engaged with, so that what retrieval missed counts against it. Equal scores keep the pool's order."""
    gains = np.asarray(LABEL_GAIN, np.float64)
    discount = 1.0 / np.log2(np.arange(2, at + 2))
    top = gains[gain_K[np.argsort(-scores_K, kind="stable")[:at]]]
    best = gains[np.sort(relevant_gains)[::-1][:at]]
    ideal = float(best @ discount[: len(best)])
    return float(top @ discount[: len(top)]) / ideal if ideal else 0.0


def mean_ndcg(scores: Iterable[np.ndarray], validation: Sequence[ValidationRows]) -> float:
    """Of one array of scores a request. Rounded, so that a tie is a tie."""
    found = [ndcg(scores_K, rows.gain_K, rows.relevant_gains) for scores_K, rows in zip(scores, validation, strict=True)]
    return round(float(np.mean(found)), 6)


def train_lambdamart(lists: Sequence[TrainingRows], rounds: int, config: RankerConfig, threads: int) -> lightgbm.Booster:
    """LambdaMART (Burges, 2010) over one list a request; the same rows and threads give the same bytes."""
    data = lightgbm.Dataset(
        np.concatenate([r.features_SR for r in lists]), np.concatenate([r.gain_S for r in lists]),
        group=[len(r.gain_S) for r in lists], weight=np.concatenate([r.weight_S for r in lists]),
        feature_name=list(RANKING_FEATURES), free_raw_data=True,
    )
    parameters = {
        "objective": "lambdarank", "label_gain": list(LABEL_GAIN), "lambdarank_truncation_level": 2 * AT,
        "num_leaves": config.leaves, "learning_rate": config.learning_rate, "min_data_in_leaf": config.min_rows_in_leaf,
        "lambda_l2": config.lambda_l2, "seed": config.seed, "num_threads": threads,
        "deterministic": True, "force_row_wise": True, "verbosity": -1,
    }
    return lightgbm.train(parameters, data, num_boost_round=rounds)


def only_shown(lists: Sequence[TrainingRows]) -> list[TrainingRows]:
    """The slates without the titles that were not shown."""
    return [TrainingRows(r.features_SR[r.shown_S], r.gain_S[r.shown_S], r.weight_S[r.shown_S], r.shown_S[r.shown_S]) for r in lists]


def choose(
    training: Sequence[TrainingRows], held_out: Sequence[TrainingRows], validation: Sequence[ValidationRows],
    config: RankerConfig, threads: int,
) -> Choice:
    """The best of retrieval order, blends and LambdaMART by validation NDCG@10; of equals the simplest.

    `held_out` are the training rows of validation's requests: the winner learns from them too before it ships.
    """
    if len(validation) < config.min_validation_requests:
        return _without_validation(training, validation, config)
    figures = {"retrieval": mean_ndcg((rows.retrieval_K for rows in validation), validation)}
    for weight in config.transition_weights:
        blended = (blend_scores(rows.retrieval_K, rows.transition_K, weight) for rows in validation)
        figures[f"blend {weight:g}"] = mean_ndcg(blended, validation)
    figures |= _lambdamart_figures(training, validation, config, threads)
    best = max(figures, key=lambda name: figures[name])  # the first of equals, and the order is simple to complex
    reason = f"best NDCG@{AT} of {len(figures)} on {len(validation)} held-out requests"
    if len(training) < config.min_training_requests:
        reason += f"; LambdaMART not tried: {len(training)} training requests, {config.min_training_requests} needed"
    return _shipped(best, reason, figures, [*training, *held_out], config, threads)


def _without_validation(training: Sequence, validation: Sequence, config: RankerConfig) -> Choice:
    reason = f"{len(validation)} validation requests, {config.min_validation_requests} needed to pick a ranker"
    weight = config.default_transition_weight
    return Choice(RankerSpec(kind="blend", transition_weight=weight, reason=f"{reason}: the blend's default"), None)


def _variants(lists: Sequence[TrainingRows]) -> dict[str, list[TrainingRows]]:
    """`pool`: shown titles beside others of the pool; `slate`: shown titles only, where slates were logged."""
    shown = [r for r in only_shown(lists) if len(r.gain_S) and r.gain_S.max() > r.gain_S.min()]
    return {"slate": shown, "pool": list(lists)} if shown else {"pool": list(lists)}


def _lambdamart_figures(
    training: Sequence[TrainingRows], validation: Sequence[ValidationRows], config: RankerConfig, threads: int
) -> dict[str, float]:
    figures = {}
    pools_NR = np.concatenate([rows.features_KR for rows in validation])
    ends = np.cumsum([len(rows.gain_K) for rows in validation])[:-1]
    for variant, lists in _variants(training).items():
        if len(lists) < config.min_training_requests:
            continue
        model = train_lambdamart(lists, max(config.rounds), config, threads)
        for rounds in config.rounds:
            scores_N = model.predict(pools_NR, num_iteration=rounds, num_threads=threads)
            figures[f"lambdamart {variant} {rounds}"] = mean_ndcg(np.split(scores_N, ends), validation)
    return figures


def _shipped(
    best: str, reason: str, figures: dict[str, float], lists: Sequence[TrainingRows], config: RankerConfig, threads: int
) -> Choice:
    kind, *details = best.split()
    if kind == "blend":
        return Choice(RankerSpec(kind=kind, transition_weight=float(details[0]), reason=reason, validation=figures), None)
    if kind == "retrieval":
        return Choice(RankerSpec(kind=kind, reason=reason, validation=figures), None)
    variant, rounds = details
    model = train_lambdamart(_variants(lists)[variant], int(rounds), config, threads)
    spec = RankerSpec(kind=kind, features=list(RANKING_FEATURES), reason=f"{reason} ({best})", validation=figures)
    return Choice(spec, model.model_to_string())

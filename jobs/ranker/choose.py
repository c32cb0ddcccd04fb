"""Trains the candidates for the place of ranker and picks one by NDCG@10 over whole pools of held-out profiles.

Shape suffixes: V validation requests, K candidates, N candidates of all validation requests, R ranking features,
S training rows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise, product

import lightgbm
import numpy as np

from contracts.features import RANKING_FEATURES, blend_scores
from contracts.release import RankerSpec
from jobs.bootstrap import PairedBootstrap, effective_size
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


# --- LambdaMART -----------------------------------------------------------------------------------------------------

@dataclass(frozen=True)
class Variant:
    """How LambdaMART learns: from which rows, and what it makes of the logged place."""

    shown_only: bool = False  # the slates without the titles that were not shown
    weighted: bool = False  # a play counts by the inverse attention of its place (Joachims et al., WSDM 2017)
    places: bool = False  # LightGBM's additive bias a place, learnt beside the trees (Hu et al., WWW 2019, is akin)

    def lists(self, rows: Sequence[TrainingRows]) -> list[TrainingRows]:
        """The lists that it learns from: a list without any difference in gain moves no tree."""
        kept = [r.only(r.place_S > 0) for r in rows] if self.shown_only else rows
        return [r for r in kept if len(r.gain_S) and r.gain_S.max() > r.gain_S.min()]


VARIANTS: dict[str, Variant] = {
    "slate": Variant(shown_only=True),
    "slate-weighted": Variant(shown_only=True, weighted=True),
    "slate-places": Variant(shown_only=True, places=True),
    "pool": Variant(),
    "pool-weighted": Variant(weighted=True),
    "pool-places": Variant(places=True),
}


def train_lambdamart(
    lists: Sequence[TrainingRows], rounds: int, config: RankerConfig, threads: int, variant: Variant = VARIANTS["pool"]
) -> lightgbm.Booster:
    """LambdaMART (Burges, 2010) over one list a request; the same rows and threads give the same bytes.

    LightGBM's norm, which pulls lists to one size, undoes weights, and makes much of the few noisy plays of a slate
    (bench/position, no bias, NDCG@10: .616 with it, .647 without); for whole pools it helps (MovieLens-1M, validation: .183
    against .181).
    """
    data = lightgbm.Dataset(
        np.concatenate([r.features_SR for r in lists]), np.concatenate([r.gain_S for r in lists]),
        group=[len(r.gain_S) for r in lists], feature_name=list(RANKING_FEATURES), free_raw_data=True,
        weight=np.concatenate([r.weight_S for r in lists]) if variant.weighted else None,
        position=np.concatenate([r.place_S for r in lists]).astype(np.int32) if variant.places else None,
    )
    parameters = {
        "objective": "lambdarank", "label_gain": list(LABEL_GAIN), "lambdarank_truncation_level": 2 * AT,
        "num_leaves": config.leaves, "extra_trees": config.extra_trees, "min_data_in_leaf": config.min_rows_in_leaf,
        "learning_rate": config.learning_rate, "lambda_l2": config.lambda_l2, "seed": config.seed, "num_threads": threads,
        "lambdarank_position_bias_regularization": config.place_regularization,
        "lambdarank_norm": not (variant.shown_only or variant.weighted),
        "deterministic": True, "force_row_wise": True, "verbosity": -1,
    }
    return lightgbm.train(parameters, data, num_boost_round=rounds)


# --- picking --------------------------------------------------------------------------------------------------------

WEIGHT_DECIMALS = 2
NEIGHBOURS, KINDS = 1, 2
"""Standard errors allowed: one among numbers of trees, which are neighbours on a curve (Hastie et al., ESL 7.10), two between
trees and what learns nothing."""


class Validation:
    """NDCG@10 over requests: the mean weighted by each request's weight, and the standard error of a paired
    difference."""

    def __init__(self, rows: Sequence[ValidationRows], config: RankerConfig):
        self.rows = rows
        self.weight_V = np.array([r.weight for r in rows])
        self.bootstrap = PairedBootstrap([r.profile_id for r in rows], config.bootstrap_samples, config.seed).weighted(self.weight_V)

    def ndcg(self, scores: Sequence[np.ndarray]) -> np.ndarray:
        """(V,) of one array of scores a request."""
        return np.array([ndcg(scores_K, r.gain_K, r.relevant_gains) for scores_K, r in zip(scores, self.rows, strict=True)])

    def mean(self, ndcg_V: np.ndarray) -> float:
        """Rounded, so that a tie is a tie."""
        return round(float(np.average(ndcg_V, weights=self.weight_V)), 6)

    def in_words(self) -> str:
        return f"{len(self.rows)} requests, {effective_size(self.weight_V):.0f} effective"


Weights = tuple[float, float]
"""Of transitions and co-watch in the blend, where retrieval has 1; both 0: retrieval order."""


def bagged_weights(ndcg_V: Mapping[Weights, np.ndarray], validation: Validation) -> Weights:
    """The mean of the weights that are best in each bootstrap sample of profiles: few requests would have one night's best
    jump across the grid from the last night's (bootstrap smoothing; Efron, JASA 2014)."""
    grid_KW = np.array(list(ndcg_V))
    best_S = validation.bootstrap.best(np.stack(list(ndcg_V.values())))
    transition, cowatch = np.round(grid_KW[best_S].mean(axis=0), WEIGHT_DECIMALS)
    return float(transition), float(cowatch)


def simplest_of_the_best(ndcg_V: Mapping[str, np.ndarray], validation: Validation, allowed: int) -> tuple[str, str]:
    """The simplest candidate whose mean lies within `allowed` standard errors of the best (of the paired difference), and
    why. Of equally simple ones, the best."""
    means = {name: validation.mean(values) for name, values in ndcg_V.items()}
    best = max(means, key=lambda name: means[name])
    errors = {name: validation.bootstrap.error(ndcg_V[best] - values) for name, values in ndcg_V.items()}
    near = [name for name in means if means[best] - means[name] <= allowed * errors[name]]
    words = {NEIGHBOURS: "one standard error", KINDS: "two standard errors"}[allowed]
    pick = min(near, key=lambda name: (complexity(name), -means[name]))
    if pick == best:
        return pick, f"{pick}: the best NDCG@{AT} of {len(means)}, and nothing simpler is within {words} of it"
    return pick, (f"{pick}: the simplest of {len(means)} within {words} of the best NDCG@{AT} "
                  f"({best}, {means[best] - means[pick]:.4f} more, standard error {errors[pick]:.4f})")


def complexity(name: str) -> int:
    """0 retrieval order, 1 a blend, then LambdaMART by its number of trees."""
    kind, *details = name.split()
    return int(details[-1]) if kind == "lambdamart" else ("retrieval", "blend").index(kind)


def choose(
    lists: Mapping[int, Sequence[TrainingRows]], asked: Sequence[ValidationRows], config: RankerConfig, threads: int
) -> Choice:
    """By NDCG@10: first the weights of the blend (retrieval order is one of them), judged by all that was `asked`; then the
    smallest within noise of LambdaMART's best, each request judging trees that have not learnt from its part; of these two
    LambdaMART where it is clearly better, by the same requests.

    Simplicity has no say among orders that learn nothing: it is worth nothing there, and few requests would ship
    retrieval order where a blend is better (bench/faults, world 18, mean of four nights' validation: .20 against .24). Nor
    has one night's best: that of 75 requests had .200 on the next day, live's weights with the same towers .253 (world 22).

    `lists` are the training rows by part. The winner learns from all of them before it ships. Twenty requests of one part
    would let trees in by luck (world 28, night 4: .124 against live's .163).
    """
    if len(asked) < config.min_validation_requests:
        return _default_blend(len(asked), config)
    everyone = Validation(asked, config)
    ndcg_V = {weights: everyone.ndcg(blended(asked, weights)) for weights in product(config.transition_weights, config.cowatch_weights)}
    weights = bagged_weights(ndcg_V, everyone)
    ndcg_V[weights] = everyone.ndcg(blended(asked, weights))
    figures = {name_of(tried): everyone.mean(values) for tried, values in ndcg_V.items()}
    pick = name_of(weights)
    reason = f"{pick}: the mean of what is best by NDCG@{AT} in {config.bootstrap_samples} bootstrap samples; {everyone.in_words()}"
    judges = [r for r in asked if r.part is not None]
    everything = [r for rows in lists.values() for r in rows]
    fewest = min((len(_outside(lists, part)) for part in {r.part for r in judges}), default=0)
    if fewest < config.min_training_requests or len(judges) < config.min_validation_requests:
        reason += (f"; LambdaMART not tried: {fewest} training requests, {config.min_training_requests} needed, "
                   f"{len(judges)} held out, {config.min_validation_requests} needed")
        return _shipped(pick, reason, figures, everything, config, threads)
    judge = Validation(judges, config)
    trained_V = _lambdamart_ndcg(lists, judge, config, threads)
    if not trained_V:
        return _shipped(pick, f"{reason}; LambdaMART not tried: too few lists with a difference to learn from", figures, everything,
                        config, threads)
    figures |= {name: judge.mean(values) for name, values in trained_V.items()}
    trees, of_trees = simplest_of_the_best(trained_V, judge, NEIGHBOURS)
    pick, last = simplest_of_the_best({pick: judge.ndcg(blended(judges, weights)), trees: trained_V[trees]}, judge, KINDS)
    return _shipped(pick, f"{last}; {judge.in_words()}; before that {of_trees}; {reason}", figures, everything, config, threads)


def blended(rows: Sequence[ValidationRows], weights: Weights) -> list[np.ndarray]:
    """One (K,) array of scores a request."""
    return [blend_scores(r.retrieval_K, r.transition_K, r.cowatch_K, *weights) for r in rows]


def name_of(weights: Weights) -> str:
    """As figures and specs say it."""
    return "blend {:g} {:g}".format(*weights) if any(weights) else "retrieval"


def _default_blend(requests: int, config: RankerConfig) -> Choice:
    reason = f"{requests} requests, {config.min_validation_requests} needed to pick a ranker: the blend's default"
    transition, cowatch = config.default_blend
    return Choice(RankerSpec(kind="blend", transition_weight=transition, cowatch_weight=cowatch, reason=reason), None)


def variants(rows: Sequence[TrainingRows]) -> dict[str, Variant]:
    """Those that differ on these rows: without slates only `pool`, without an attention curve nothing to weigh by."""
    slates = any((r.place_S > 0).any() for r in rows)
    weights = any((r.weight_S != 1.0).any() for r in rows)
    return {name: v for name, v in VARIANTS.items()
            if (slates or not (v.shown_only or v.places)) and (weights or not v.weighted)}


def _lambdamart_ndcg(
    lists: Mapping[int, Sequence[TrainingRows]], judge: Validation, config: RankerConfig, threads: int
) -> dict[str, np.ndarray]:
    out = {}
    for name, variant in variants([r for rows in lists.values() for r in rows]).items():
        for rounds, scores in _unseen_scores(variant, lists, judge.rows, config, threads).items():
            out[f"lambdamart {name} {rounds}"] = judge.ndcg(scores)
    return out


def _unseen_scores(
    variant: Variant, lists: Mapping[int, Sequence[TrainingRows]], judges: Sequence[ValidationRows], config: RankerConfig, threads: int
) -> dict[int, list[np.ndarray]]:
    """By number of trees one array a request, of a model that has not learnt from the request's part (cross-validation where
    there are several). Empty where a part leaves too few lists."""
    scores: dict[int, list[np.ndarray]] = {rounds: [np.zeros(0)] * len(judges) for rounds in config.rounds}
    for part in sorted({r.part for r in judges}):
        mine = variant.lists(_outside(lists, part))
        if len(mine) < config.min_training_requests:
            return {}
        model = train_lambdamart(mine, max(config.rounds), config, threads, variant)
        asking = [place for place, r in enumerate(judges) if r.part == part]
        pools_NR = np.concatenate([judges[place].features_KR for place in asking])
        ends = np.cumsum([len(judges[place].gain_K) for place in asking])[:-1]
        scores_N = np.zeros(len(pools_NR))
        for fewer, rounds in pairwise((0, *sorted(config.rounds))):
            scores_N = scores_N + model.predict(pools_NR, start_iteration=fewer, num_iteration=rounds - fewer, num_threads=threads)
            for place, scores_K in zip(asking, np.split(scores_N, ends), strict=True):
                scores[rounds][place] = scores_K
    return scores


def _outside(lists: Mapping[int, Sequence[TrainingRows]], part: int | None) -> list[TrainingRows]:
    return [r for other, rows in lists.items() if other != part for r in rows]


def _shipped(
    pick: str, reason: str, figures: dict[str, float], rows: Sequence[TrainingRows], config: RankerConfig, threads: int
) -> Choice:
    kind, *details = pick.split()
    spec = RankerSpec(kind=kind, reason=reason, validation=figures, picked=pick)
    if kind == "blend":
        return Choice(spec.model_copy(update=dict(zip(("transition_weight", "cowatch_weight"), map(float, details), strict=True))), None)
    if kind == "retrieval":
        return Choice(spec, None)
    variant = VARIANTS[details[0]]
    model = train_lambdamart(variant.lists(rows), int(details[1]), config, threads, variant)
    return Choice(spec.model_copy(update={"features": list(RANKING_FEATURES)}), model.model_to_string())

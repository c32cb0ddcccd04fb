"""The second stage as full rankings: retrieval order, blend and LambdaMART, made and chosen by the product's own code
(jobs/ranker).

Shape suffixes: Q requests, T titles, K candidates.
"""

from collections.abc import Callable
from dataclasses import dataclass

import lightgbm
import numpy as np

from bench.ranking.pools import Retrieved
from bench.retrieval.evaluate import Scores
from contracts.features import blend_scores
from jobs.attention import Attention
from jobs.ranker.choose import VARIANTS, Choice, choose, train_lambdamart
from jobs.ranker.config import RankerConfig
from jobs.ranker.pool import Pool
from jobs.ranker.rows import NOTHING_SHOWN, TrainingRows, training_rows, validation_rows

Order = Callable[[Pool], np.ndarray]
"""(K,) score of each candidate of a pool, best retrieved first."""
RETRIEVAL, BLEND, LAMBDAMART = "retrieval", "blend", "lambdamart"
JUDGES, LEARNS = 0, 1
"""Parts of the requests: what judges the trees is not learnt from."""
NO_PLACES = Attention("none")
"""No slates are logged: every play counts alike."""


@dataclass(frozen=True)
class Rankers:
    """What ships, and the best of the other kinds by validation. A kind without figures was not tried."""

    choice: Choice
    weights: tuple[float, float]  # of the blend: transitions, co-watch
    rounds: int  # of LambdaMART; 0: not tried

    @classmethod
    def chosen(cls, learns: list[TrainingRows], judges: Retrieved, config: RankerConfig, threads: int) -> "Rankers":
        """Validation requests choose and are not learnt from."""
        pools = judges.pools(judges.requests.spread(config.max_requests))
        asked = [validation_rows(pool, NOTHING_SHOWN, NO_PLACES, config, JUDGES) for _, pool in pools]
        choice = choose({LEARNS: learns}, asked, config, threads)
        blend = _numbers(choice, BLEND) or list(config.default_blend)
        return cls(choice, (blend[0], blend[1]), int((_numbers(choice, LAMBDAMART) or [0])[-1]))

    def orders(self, learns: list[TrainingRows], config: RankerConfig, threads: int) -> dict[str, Order]:
        """By kind, LambdaMART trained on these lists."""
        made: dict[str, Order] = {
            RETRIEVAL: lambda pool: pool.candidates.retrieval_score,
            BLEND: lambda pool: blend_scores(pool.candidates.retrieval_score, pool.candidates.transition_score,
                                             pool.candidates.cowatch_score, *self.weights),
        }
        if self.rounds:
            model = train_lambdamart(VARIANTS["pool"].lists(learns), self.rounds, config, threads)
            made[LAMBDAMART] = lambda pool: _predicted(model, pool, threads)
        return made


def lists_to_learn(retrieved: Retrieved, config: RankerConfig) -> list[TrainingRows]:
    """One list a request of at most `max_requests`."""
    pools = retrieved.pools(retrieved.requests.spread(config.max_requests))
    return [training_rows(pool, NOTHING_SHOWN, NO_PLACES, config) for _, pool in pools]


def full_ranking(retrieved: Retrieved, order: Order) -> Scores:
    """The pool in the ranker's order, equal ones as retrieved, then the other titles in retrieval order."""
    def scores(rows: np.ndarray) -> np.ndarray:
        out_QT = np.empty((len(rows), retrieved.requests.titles), np.float32)
        for out_T, (scores_T, pool) in zip(out_QT, retrieved.pools(rows), strict=True):
            best = np.argsort(-order(pool), kind="stable")
            out_T[:] = scores_T
            out_T[pool.rows_K[best]] = scores_T.max() + 1.0 + np.arange(len(best), 0, -1)
        return out_QT

    return scores


def _numbers(choice: Choice, kind: str) -> list[float]:
    """A blend's weights, LambdaMART's rounds: of what ships, else of the best figure of that kind; the first of equals.
    Empty where the kind was not tried."""
    figures = {name: value for name, value in choice.spec.validation.items() if name.split()[0] == kind}
    if not figures:
        return []
    best = choice.spec.picked if choice.spec.kind == kind else max(figures, key=lambda name: figures[name])
    return [float(word) for word in best.split()[1:] if word[0].isdigit()]


def _predicted(model: lightgbm.Booster, pool: Pool, threads: int) -> np.ndarray:
    return model.predict(pool.features(), num_threads=threads)

"""Everything that a recipe may choose for this step."""

from dataclasses import dataclass


@dataclass(frozen=True)
class RankerConfig:
    """Small trees on purpose: big ones halved the gain on later positions of MovieLens-1M. Their thresholds are drawn
    (extremely randomised trees; Geurts et al., 2006), since plays are few and noisy: MovieLens-1M, validation NDCG@10 .185
    against .183; three simulated worlds of 3,000 requests (bench/position's seeds 1 and 2) .671 against .648."""

    seed: int = 7
    pool_size: int = 500  # candidates of a request, in validation here and in serving
    max_requests: int = 3000  # a stable sample of the ranker block
    validation_one_in: int = 4  # parts that profiles fall in: LambdaMART is judged by those that it has not learnt from
    one_part_from: int = 1000  # requests of which one part is enough; of fewer each judges in turn, for as many trainings
    min_training_requests: int = 100  # with something engaged with among the candidates
    min_validation_requests: int = 50  # to pick by
    negatives: int = 100  # titles of the pool that were not shown, per request; drawn alike at every rank (rows.py)
    most_weight: float = 5.0  # of a play at a place that is rarely looked at, against 1 at place 1
    rounds: tuple[int, ...] = (50, 100, 200, 400)  # validation picks
    leaves: int = 7
    extra_trees: bool = True
    min_rows_in_leaf: int = 50
    learning_rate: float = 0.05
    lambda_l2: float = 5.0
    place_regularization: float = 0.0  # of LightGBM's bias a place
    transition_weights: tuple[float, ...] = (0.0, 0.1, 0.2, 0.4, 0.8, 1.6)  # of the blend; validation picks
    cowatch_weights: tuple[float, ...] = (0.0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2)
    default_blend: tuple[float, float] = (0.2, 0.8)  # where there is too little to pick from; in 13 nights of small worlds .8 and more was best
    bootstrap_samples: int = 1000  # of validation profiles, for the standard error that the pick allows for

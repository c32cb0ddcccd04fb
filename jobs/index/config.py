"""Everything that a recipe may choose for this step."""

from dataclasses import dataclass


@dataclass(frozen=True)
class IndexConfig:
    seed: int = 7
    embed_batch: int = 1024

    # sequential co-occurrence: the next `reach` plays, weighted 1/distance
    transition_reach: int = 5
    transitions_per_title: int = 100
    transition_half_life_days: float = 30.0  # 0: old and new plays count the same
    transition_shrinkage: float = 20.0

    # what the same profiles watch (EASE)
    cowatch_titles: int = 8000  # played by most profiles, modelled together: the matrix is dense
    cowatch_share: float = 0.95  # of the plays that they must have; else each title is modelled from its nearest alone
    cowatch_nearest: int = 200
    cowatch_nearest_titles: int = 100_000
    cowatch_per_title: int = 200
    cowatch_regularization: float = 300.0
    cowatch_dropout: float = 0.0

    # popularity by market and cohort
    fallback_half_life_days: float = 7.0
    fallback_world_share: float = 0.05  # of other markets' plays, so that a thin market has an order too
    kids_maturity: int = 7  # the kids cohort's titles

    # checks of the collection
    insert_batch: int = 1000
    checked_vectors: int = 200
    checked_searches: int = 24
    search_size: int = 100
    minimum_recall: float = 0.99

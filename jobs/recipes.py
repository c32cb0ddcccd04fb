"""Whole configurations: a recipe is a function that returns everything a build may choose, typed."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field

from contracts.errors import UsageError
from jobs.evaluation.config import JudgeConfig
from jobs.index.config import IndexConfig
from jobs.ranker.config import RankerConfig
from jobs.towers.config import TowersConfig


@dataclass(frozen=True)
class Recipe:
    """One build's configuration; its values are inputs of the release id."""

    name: str
    towers: TowersConfig = field(default_factory=TowersConfig)
    index: IndexConfig = field(default_factory=IndexConfig)
    ranker: RankerConfig = field(default_factory=RankerConfig)
    judge: JudgeConfig = field(default_factory=JudgeConfig)

    def as_inputs(self) -> dict:
        return asdict(self)


def nano() -> Recipe:
    """Seconds on a laptop: for tests."""
    return Recipe(
        "nano",
        # two thousand labels: at the usual .05 two seeds differ by more than a night may lose
        towers=TowersConfig(dimension=32, layers=1, feed_forward=64, history_length=32, dropout=0.1, epochs=10,
                            temperature=0.2, tokens_per_batch=512, warm_up_steps=20, recall_at=20),
        ranker=RankerConfig(max_requests=400, min_training_requests=30, min_validation_requests=20, rounds=(20, 50),
                            min_rows_in_leaf=20),
        # a hundred profiles cannot show more than popularity in two days: it is enough not to lose significantly
        judge=JudgeConfig(max_requests=120, min_requests=20, min_slice_requests=8, bootstrap_samples=400,
                          popularity_must_be_beaten=False, max_degraded_answers=0.2),
    )


def demo() -> Recipe:
    """The demo world: minutes on two cores."""
    return Recipe("demo", towers=TowersConfig(history_length=64, epochs=6, tokens_per_batch=3072),
                  judge=JudgeConfig(max_requests=700))


def movielens() -> Recipe:
    """MovieLens-1M and latest-small: no impressions, one market."""
    # old co-occurrences count like new ones: a night here is weeks long
    return Recipe("movielens", towers=TowersConfig(epochs=7),
                  index=IndexConfig(transition_half_life_days=0.0, fallback_half_life_days=90.0))


def large() -> Recipe:
    """A real service's size, with a GPU."""
    return Recipe(
        "large",
        towers=TowersConfig(dimension=128, heads=4, feed_forward=256, history_length=128, epochs=4,
                            tokens_per_batch=32_768, uniform_negatives=4096, in_batch_negatives=4096,
                            windows_per_profile=2),
        ranker=RankerConfig(max_requests=50_000),
        judge=JudgeConfig(max_requests=10_000, client_threads=8),
    )


def pooled() -> Recipe:
    """A large catalogue or no GPU: the cheap query tower, which pools histories instead of attending to them."""
    # what a place far back adds is little, and costs a pass over all places
    return Recipe("pooled", towers=TowersConfig(query="pooled", heads=4, history_length=64, epochs=4, tokens_per_batch=4096))


RECIPES: dict[str, Callable[[], Recipe]] = {f.__name__: f for f in (nano, demo, movielens, large, pooled)}


def recipe(name: str) -> Recipe:
    """The recipe of that name; UsageError names the ones there are."""
    if name not in RECIPES:
        raise UsageError(f"MARQUEE_RECIPE={name}: no such recipe; there are {', '.join(RECIPES)}")
    return RECIPES[name]()

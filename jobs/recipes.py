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
    return Recipe("nano")


def demo() -> Recipe:
    """The demo world: minutes on two cores."""
    return Recipe("demo")


def movielens() -> Recipe:
    """MovieLens-1M and latest-small: no impressions, one market."""
    return Recipe("movielens")


def large() -> Recipe:
    """A real service's size, with a GPU."""
    return Recipe("large")


RECIPES: dict[str, Callable[[], Recipe]] = {f.__name__: f for f in (nano, demo, movielens, large)}


def recipe(name: str) -> Recipe:
    """The recipe of that name; UsageError names the ones there are."""
    if name not in RECIPES:
        raise UsageError(f"MARQUEE_RECIPE={name}: no such recipe; there are {', '.join(RECIPES)}")
    return RECIPES[name]()

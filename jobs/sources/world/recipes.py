"""Sizes and rates of the simulated service, as functions that return one whole typed configuration."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, timedelta

from contracts.errors import UsageError


@dataclass(frozen=True)
class WorldRecipe:
    """Everything that, with a seed, decides the bytes of a world."""

    name: str
    profiles: int  # about so many have joined by the end of the history
    titles: int  # launched before the history ends, about
    markets: int
    history_days: int
    sessions_per_day: int
    first_day: date = date(2026, 3, 1)
    horizon_days: int = 120  # after the history: new titles and profiles are drawn up to here
    slate_size: int = 20
    exploration: float = 0.1  # probability that a slot shows a uniformly drawn title
    launch_every_days: int = 2
    launch_share: float = 0.01  # of the catalogue, per launch
    new_profile_share: float = 0.003  # of the profiles, per day
    late: float = 0.02  # of the event records are received hours to days after
    duplicated: float = 0.003
    malformed: float = 0.001

    @property
    def last_history_day(self) -> date:
        return self.first_day + timedelta(days=self.history_days - 1)

    def day(self, date_of_day: date) -> int:
        """Days since the first one."""
        return (date_of_day - self.first_day).days

    def date(self, day: int) -> date:
        return self.first_day + timedelta(days=day)


def nano() -> WorldRecipe:
    """Seconds: for tests. Defects are more frequent, so that a small world has some of each."""
    return WorldRecipe("nano", profiles=300, titles=200, markets=3, history_days=8, sessions_per_day=240,
                       launch_share=0.015, new_profile_share=0.01, duplicated=0.005, malformed=0.004)


def demo() -> WorldRecipe:
    """What `make demo` shows: 20 thousand profiles, 5 thousand titles, 12 markets, 30 days."""
    return WorldRecipe("demo", profiles=20_000, titles=5_000, markets=12, history_days=30, sessions_per_day=3_300)


def large() -> WorldRecipe:
    """A real service's size: 50 million impressions, written day by day."""
    return WorldRecipe("large", profiles=1_000_000, titles=50_000, markets=12, history_days=30,
                       sessions_per_day=84_000, launch_share=0.002)


RECIPES: dict[str, Callable[[], WorldRecipe]] = {f.__name__: f for f in (nano, demo, large)}


def world_recipe(name: str) -> WorldRecipe:
    """The recipe of that name; UsageError names the ones there are."""
    if name not in RECIPES:
        raise UsageError(f"--recipe {name}: no such world; there are {', '.join(RECIPES)}")
    return RECIPES[name]()

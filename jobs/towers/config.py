"""Everything that a recipe may choose for this step."""

from dataclasses import dataclass


@dataclass(frozen=True)
class TowersConfig:
    seed: int = 7

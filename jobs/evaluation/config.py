"""Everything that a recipe may choose for this step."""

from dataclasses import dataclass


@dataclass(frozen=True)
class JudgeConfig:
    seed: int = 7

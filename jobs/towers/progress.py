"""How far a training has come, and what one that was killed goes on from."""

import pickle
import zipfile
from dataclasses import astuple, dataclass, field, fields
from pathlib import Path

import torch
from torch import Tensor

from contracts import durable
from jobs.runtime import log
from jobs.towers.config import TowersConfig
from jobs.towers.model import Towers


@dataclass(frozen=True)
class Epoch:
    """One point of the curve; recall is None where nothing was held out."""

    loss: float
    recall: float | None


@dataclass
class Progress:
    """What whole epochs have brought, beside the weights and the optimisers' moments."""

    steps: int = 0
    planned: int = 0  # steps of all epochs, by the first one's
    curve: list[Epoch] = field(default_factory=list)
    best: int = 0
    best_weights: dict[str, Tensor] | None = None

    def over(self, config: TowersConfig) -> bool:
        since = len(self.curve) - 1 - self.best
        return len(self.curve) >= config.epochs or 0 < config.patience <= since

    def add(self, epoch: Epoch, towers: Towers) -> None:
        self.curve.append(epoch)
        if self.best_weights is None or (epoch.recall or 0.0) >= (self.curve[self.best].recall or 0.0):
            self.best = len(self.curve) - 1
            self.best_weights = {name: weight.clone() for name, weight in towers.state_dict().items()}

    def plain(self) -> dict:
        """For a checkpoint."""
        return vars(self) | {"curve": [astuple(epoch) for epoch in self.curve]}

    @classmethod
    def of(cls, state: dict) -> "Progress":
        return cls(**{one.name: state[one.name] for one in fields(cls)} | {"curve": [Epoch(*epoch) for epoch in state["curve"]]})


@dataclass(frozen=True)
class Checkpoint:
    """Everything that a run's next epoch depends on, in a file. `of` names the run's inputs, so that no other goes on from it."""

    path: Path
    of: str

    def save(self, state: dict) -> None:
        aside = self.path.with_name(f".{self.path.name}.new")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        torch.save({"of": self.of, **state}, aside)
        durable.publish(aside, self.path)

    def load(self) -> dict | None:
        """The state after the last whole epoch of this very run; None where there is none."""
        try:
            state = torch.load(self.path, weights_only=True, map_location="cpu")
        except FileNotFoundError:
            return None
        except (RuntimeError, EOFError, pickle.UnpicklingError, zipfile.BadZipFile) as error:
            log.warning("towers: %s cannot be read and training begins anew: %s", self.path, error)
            return None
        return state if state["of"] == self.of else None

    def done(self) -> None:
        self.path.unlink(missing_ok=True)

"""Everything that a recipe may choose for this step."""

from dataclasses import dataclass

from contracts.errors import UsageError
from jobs.text import check_name, latent

LOWEST_TEMPERATURE = 0.02
"""Exponentials of cosines over it, and sums and quotients of such, are floats (losses.py)."""


@dataclass(frozen=True)
class TowersConfig:
    """One training run. The defaults are FACTS' best on MovieLens-1M but for the epochs."""

    seed: int = 7

    # model
    query: str = "transformer"  # or `pooled`: averages that decay with recency in place of attention
    dimension: int = 64
    layers: int = 2
    heads: int = 2  # of a pooled tower: each with a half-life of its own
    feed_forward: int = 128
    history_length: int = 200
    dropout: float = 0.2
    ordered: bool = True  # False: histories are sets; no places, no gaps, and another order in each epoch

    # of titles' texts: `tf-idf svd`, `hashed words` or `sentence-transformers:<model>`, see jobs/text
    text_encoder: str = latent.NAME

    # training
    epochs: int = 8
    tokens_per_batch: int = 4096  # windows are batched by length up to this many positions, padding included
    learning_rate: float = 2e-3
    weight_decay: float = 0.01
    warm_up_steps: int = 100
    # of matrix products while learning: `bfloat16`, `float32`, or `auto`: bfloat16 on a GPU that has it, float32 on a CPU, since
    # only some have it, and a rebuild elsewhere would make other bytes. On one that has it bfloat16 takes a third less time.
    precision: str = "auto"
    temperature: float = 0.05
    start: str = "spectral"  # of ids: by who plays them (start.py), or `random`
    id_masking: float = 0.3  # how often a title trains without its id, so that content alone is a good vector
    min_plays_for_id: int = 1
    windows_per_profile: int = 0  # newest windows only; 0: all

    # loss: `full` softmax over every title with a play, `sampled` in-batch and uniform negatives, `auto` by size
    loss: str = "auto"
    full_softmax_titles: int = 20_000
    uniform_negatives: int = 1024
    in_batch_negatives: int = 1024  # of the batch's labels, drawn anew each step; 0: all of them

    # early choice, on the last block before retriever_end
    validation_labels: int = 4000
    recall_at: int = 100
    patience: int = 6  # epochs without a better one after which training ends; 0: never

    def __post_init__(self) -> None:
        if self.dimension % self.heads:
            raise UsageError(f"towers: dimension {self.dimension} is not a multiple of heads {self.heads}")
        check_name(self.text_encoder)
        if self.query not in ("transformer", "pooled"):
            raise UsageError(f"towers: query {self.query!r}; there are transformer, pooled")
        if self.start not in ("spectral", "random"):
            raise UsageError(f"towers: start {self.start!r}; there are spectral, random")
        if self.precision not in ("auto", "float32", "bfloat16"):
            raise UsageError(f"towers: precision {self.precision!r}; there are auto, float32, bfloat16")
        if self.temperature < LOWEST_TEMPERATURE:
            raise UsageError(f"towers: temperature {self.temperature}; {LOWEST_TEMPERATURE} at least")
        if self.loss not in ("auto", "full", "sampled"):
            raise UsageError(f"towers: loss {self.loss!r}; there are auto, full, sampled")

    def uses_full_softmax(self, titles: int) -> bool:
        return self.loss == "full" or (self.loss == "auto" and titles <= self.full_softmax_titles)

"""Everything that a recipe may choose for this step."""

from dataclasses import dataclass


@dataclass(frozen=True)
class JudgeConfig:
    """Thresholds are what an approver sees on the card; nothing here changes what serves."""

    seed: int = 7
    max_requests: int = 1200  # a stable sample by profile
    min_requests: int = 100  # fewer: the comparisons say nothing, and the card says that
    min_slice_requests: int = 20  # smaller slices are not shown
    client_threads: int = 3
    shelf_size: int = 20
    bootstrap_samples: int = 1000
    live_margin: float = 0.01  # relative loss against live that is tolerated
    popularity_must_be_beaten: bool = True  # False: it is enough not to be significantly worse (tiny test worlds)
    max_failed_answers: float = 0.0  # share of requests
    max_degraded_answers: float = 0.02  # share of requests
    new_title_days: int = 14
    ready_seconds: float = 300.0  # imports alone take minutes where a box is overloaded

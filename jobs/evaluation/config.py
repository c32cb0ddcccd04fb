"""Everything that a recipe may choose for this step."""

from dataclasses import dataclass


@dataclass(frozen=True)
class JudgeConfig:
    """Thresholds are what an approver sees on the card; nothing here changes what serves."""

    seed: int = 7
    max_requests: int = 1200  # a stable sample by profile
    min_requests: int = 100  # fewer: the comparisons say nothing, and the card says that
    min_slice_requests: int = 20  # smaller slices are not shown
    min_explored: int = 30  # engagements in exploration slots; fewer cannot correct for what a release itself showed
    clip: float = 10.0  # a corrected label weighs at most so many times the median one
    client_threads: int = 3
    shelf_size: int = 20
    bootstrap_samples: int = 1000
    live_margin: float = 0.01  # relative loss against live that is tolerated
    popularity_must_be_beaten: bool = True  # False: it is enough not to be significantly worse (tiny test worlds)
    max_failed_answers: float = 0.0  # share of requests
    max_degraded_answers: float = 0.02  # share of requests
    max_empty_answers: float = 0.1  # shelves of members who did watch something that day
    new_title_days: int = 14
    ready_seconds: float = 300.0  # imports alone take minutes where a box is overloaded

    # data, against earlier nights of the same length; noise of small samples is allowed for on top
    earlier_blocks: int = 8
    min_earlier_blocks: int = 3  # fewer: nothing to compare with
    volume_factor: float = 2.0  # below the least earlier night by more, or above the most
    share_floor: float = 0.1  # late, duplicate and quarantined records: so much is never too much
    share_factor: float = 2.0  # of the highest earlier share
    filled_drop: float = 0.2  # of the filled share, absolute
    drift_psi: float = 0.5  # a "major shift" is .25: this asks for twice that, since seasons are not faults
    leak_auc: float = 0.95  # one column that tells engagement this well knows the answer
    eligibility_disagrees: float = 0.02  # share of (title, market) where marts and eligibility log differ

    # retrieval
    min_filled_pool: float = 0.9  # of what a pool could hold, by market and maturity limit
    min_filtered_recall: float = 0.95  # of exact search under the same filter
    filtered_searches: int = 32
    interactions: int = 10  # a title with so many ought to be found by somebody
    min_retrievable: float = 0.5  # share of such titles
    retrievable_drop: float = 0.1  # against live, absolute

    # beyond accuracy, against the poorer of live and popularity's own shelves
    coverage_drop: float = 0.25  # relative
    popularity_rise: float = 0.1  # absolute share of places
    tail_drop: float = 0.5  # relative
    diversity_drop: float = 0.1  # absolute, below live's
    diversity_floor: float = 0.25  # of popularity's

    safety_samples: int = 10_000
    parity: float = 1e-5  # largest difference between torch and ONNX, and between files that must agree
    online_profiles: int = 100
    online_differs: float = 0.01  # share of compared values

    # operations: generous, since a night may share its machine
    timed_requests: int = 200
    max_payload_bytes: float = 8e9
    max_load_seconds: float = 240.0
    max_p50_ms: float = 1000.0
    max_p99_ms: float = 5000.0

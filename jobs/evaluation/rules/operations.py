"""Can it be served: size, time to load, latency. Generous, since a night may share its machine."""

from collections.abc import Iterator

import numpy as np

from jobs.evaluation import gates as gate
from jobs.evaluation.case import Case
from jobs.evaluation.gates import Gate
from jobs.evaluation.rules.index import Index


def gates(case: Case, index: Index) -> Iterator[Gate]:
    config, size = case.config, sum(entry.size for entry in case.payload.files.values())
    yield gate.below("payload_size", "operations", "bytes of what a replica loads", size, config.max_payload_bytes,
                     f"{size / 1e6:.1f} MB in {len(case.payload.files)} files")
    yield gate.below("load_time", "operations", "seconds from the start of a replica to its first answer", round(case.ours.load_seconds, 1),
                     config.max_load_seconds, f"{case.ours.load_seconds:.1f} s")
    times = [answer.milliseconds for answer in case.ours.timed if answer.error is None]
    for name, q, limit in (("latency_p50", 50, config.max_p50_ms), ("latency_p99", 99, config.max_p99_ms)):
        rule = f"milliseconds of a shelf, p{q} over {config.timed_requests} requests of golden profiles, one at a time"
        if not times:
            yield gate.not_applicable(name, "operations", rule, "no golden profile got an answer")
            continue
        figure = float(np.percentile(times, q))
        yield gate.below(name, "operations", rule, round(figure, 1), limit, f"{figure:.0f} ms over {len(times)} answers")

"""The one evaluation of retrieval, ranking and peers: full ranking, seen titles left out, in batches of bounded memory.
Imports neither torch nor the towers: peers run it in an environment of their own.

Shape suffixes: Q requests, T titles, K cut-offs.
"""

import resource
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from bench.retrieval.requests import Requests
from jobs.evaluation import ranking

Scores = Callable[[np.ndarray], np.ndarray]
"""(Q,) rows of requests -> (Q,T) float scores."""

SCORES_AT_ONCE = 16_000_000
"""64 MB of float32; what a system needs besides is a few times that."""
CHOSEN_BY = "ndcg@10"
REQUESTS_TO_CHOOSE_BY, SCORES_TO_CHOOSE_BY = (1_000, 10_000), 1_000_000_000
"""A choice looks at tens of settings: as many requests as make so many scores, between the two bounds."""
SLICED = "hr@10", "ndcg@10"
SHOWN = ("hr@10", "ndcg@10", "recall@50", "hr@200", "coverage@10")


def figures(requests: Requests, scores: Scores, ks: Sequence[int], seed: int, slices: Mapping[str, np.ndarray]) -> dict:
    """Means over requests, coverage of the catalogue, bootstrap bounds of HR@10 and NDCG@10, and both in each slice (Q,)."""
    values, shown_KT = _ranked(requests, scores, ks, np.arange(len(requests)))
    out = {name: round(float(value_Q.mean()), 5) for name, value_Q in values.items()}
    out |= {f"coverage@{k}": round(float(shown_T.mean()), 5) for k, shown_T in zip(ks, shown_KT, strict=True)}
    out |= {"bounds": {name: [round(b, 5) for b in ranking.bounds(values[name], seed)] for name in SLICED}}
    sliced = {name: {"requests": int(mask_Q.sum()), **{of: round(float(values[of][mask_Q].mean()), 5) for of in SLICED}}
              for name, mask_Q in slices.items()}
    return out | ({"slices": sliced} if sliced else {})


def quality(requests: Requests, scores: Scores) -> float:
    """What every choice is made by: the mean NDCG@10 of at most 10,000 requests, fewer of a catalogue above 100,000."""
    return qualities(requests, lambda rows: [scores(rows)])[0]


def qualities(requests: Requests, several: Callable[[np.ndarray], Iterable[np.ndarray]]) -> list[float]:
    """The quality of each of several (Q,T) scores of the same requests."""
    fewest, most = REQUESTS_TO_CHOOSE_BY
    rows = requests.spread(max(fewest, min(most, SCORES_TO_CHOOSE_BY // requests.titles)))
    parts = [[_values(requests, batch, np.array(scores_QT, np.float32), (10,))[CHOSEN_BY] for scores_QT in several(batch)]
             for batch in requests.batches(rows, SCORES_AT_ONCE)]
    return [round(float(np.concatenate(values).mean()), 6) for values in zip(*parts, strict=True)]


def _ranked(requests: Requests, scores: Scores, ks: Sequence[int], rows: np.ndarray) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Figures per request, and (K,T) whether anybody was shown a title among the first k."""
    parts, shown_KT = [], np.zeros((len(ks), requests.titles), bool)
    for batch in requests.batches(rows, SCORES_AT_ONCE):
        scores_QT = np.array(scores(batch), np.float32)
        parts.append(_values(requests, batch, scores_QT, ks))
        for scores_T in scores_QT:
            best = ranking.top(scores_T, max(ks))
            for shown_T, k in zip(shown_KT, ks, strict=True):
                shown_T[best[:k]] = True
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}, shown_KT


def _values(requests: Requests, batch: np.ndarray, scores_QT: np.ndarray, ks: Sequence[int]) -> dict[str, np.ndarray]:
    """Figures per request; what a request has seen is left out of its row, in place."""
    relevant = requests.relevant(batch)
    ranking.exclude(scores_QT, requests.seen(batch), relevant)
    return ranking.figures(ranking.places(scores_QT, relevant), relevant.request, len(batch), ks)


class Phases:
    """Wall and CPU seconds of each phase, and the process's peak memory at its end. CPU seconds bear a busy machine."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.cpu_seconds: dict[str, float] = {}
        self.peak_mib: dict[str, int] = {}
        self._begin = time.monotonic(), time.process_time()

    def done(self, phase: str) -> None:
        now = time.monotonic(), time.process_time()
        self.seconds[phase], self.cpu_seconds[phase] = (round(end - begin, 1) for begin, end in zip(self._begin, now, strict=True))
        self.peak_mib[phase], self._begin = _peak_mib(), now

    def report(self) -> dict:
        return {"seconds": self.seconds, "cpu_seconds": self.cpu_seconds, "peak_mib_by_phase": self.peak_mib, "peak_memory_mib": _peak_mib()}


def _peak_mib() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak // (1 if sys.platform != "darwin" else 1024) // 1024  # kilobytes; bytes on macOS


def table(systems: dict[str, dict]) -> str:
    """Test figures of named systems as a Markdown table."""
    lines = ["| test | " + " | ".join(SHOWN) + " |", "| --- |" + " --- |" * len(SHOWN)]
    lines += ["| " + " | ".join([name, *(f"{found[s]:.4f}" if s in found else "" for s in SHOWN)]) + " |" for name, found in systems.items()]
    return "\n".join(lines)

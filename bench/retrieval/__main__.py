"""Retrieval quality on any interactions, full ranking, seen titles left out.

    python -m bench.retrieval --interactions FILE.parquet --protocol roles --out result.json

`interactions`: profile_id, title_id, ts (any increasing order; seconds since 1970 also give time gaps), optional rating
and role (train, valid, test). `titles` and `profiles`: one row an id with whatever is known of it.
"""

import argparse
import json
import resource
import sys
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np

from bench.retrieval import data as dataset
from bench.retrieval import recipes, systems
from bench.retrieval.data import TEST, VALID, Dataset
from bench.retrieval.requests import Requests, requests_of
from bench.retrieval.systems import Scores
from contracts.errors import UsageError
from jobs.evaluation import ranking

BLEND_WEIGHTS = (0.1, 0.2, 0.4, 0.8, 1.6)
"""Of next-watch transitions beside the towers; validation picks one, or none."""
CHOSEN_BY = "ndcg@10"
SCORES_AT_ONCE = 16_000_000


def main() -> None:
    options = parser().parse_args()
    try:
        result = run(options)
    except UsageError as error:
        print(f"bench.retrieval: {error}", file=sys.stderr)
        sys.exit(2)
    options.out.write_text(json.dumps(result, indent=1) + "\n")
    print(_table(result))


def run(options: argparse.Namespace) -> dict:
    """Everything that the result file holds."""
    clock = Phases()
    ks = sorted({10, *options.k})
    data = dataset.load(options.interactions, options.titles, options.profiles, options.protocol)
    ordered = not options.unordered
    config = recipes.recipe(options.recipe)(data, ordered, options.seed)
    valid, test = (requests_of(data, role, options.fit) for role in (VALID, TEST))
    if not len(valid) or not len(test):
        raise UsageError(f"{options.interactions}: {len(valid)} profiles have validation rows and {len(test)} test rows")
    clock.done("read")
    trainer, fitted = systems.train(data, valid.learns, data.role == VALID, config, options.threads)
    clock.done("train")
    on_valid = _systems(data, valid, ordered, systems.towers(data, valid, trainer))
    weight, by_weight = _choose(valid, on_valid, ks)
    valid_figures = {name: _figures(valid, scores, data, ks, options.seed) for name, scores in _named(valid, on_valid, weight, data).items()}
    clock.done("validate")
    if options.fit == "train+valid":
        trainer, _ = systems.train(data, test.learns, np.zeros(len(data.role), bool), systems.refit(config, fitted), options.threads)
        clock.done("train on validation rows too")
    on_test = _systems(data, test, ordered, systems.towers(data, test, trainer))
    test_figures = {name: _figures(test, scores, data, ks, options.seed) for name, scores in _named(test, on_test, weight, data).items()}
    clock.done("test")
    return {
        "test": test_figures["model"], "valid": valid_figures["model"],
        "beside": {name: {"test": test_figures[name], "valid": valid_figures[name]} for name in test_figures if name != "model"},
        "model": {"kind": "towers" if weight == 0 else "towers and transitions", "transition_weight": weight,
                  f"valid {CHOSEN_BY} by weight": by_weight, "best_epoch": fitted.best + 1,
                  "curve": [asdict(point) for point in fitted.curve]},
        "data": {"profiles": len(data.profile_ids), "titles": len(data.title_ids), "interactions": len(data.profile),
                 "timed": data.timed, "content": data.has_content, "requests": {"valid": len(valid), "test": len(test)}},
        "configuration": {"protocol": options.protocol, "fit": options.fit, "ordered": ordered, "recipe": options.recipe,
                          "seed": options.seed, "threads": options.threads, "seen": "left out", "towers": asdict(config)},
        "seconds": clock.seconds, "peak_memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser("python -m bench.retrieval", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--interactions", type=Path, required=True)
    made.add_argument("--titles", type=Path)
    made.add_argument("--profiles", type=Path)
    made.add_argument("--protocol", choices=dataset.PROTOCOLS, required=True)
    made.add_argument("--unordered", action="store_true", help="the order means nothing: places, recency and last title are off")
    made.add_argument("--fit", choices=("train", "train+valid"), default="train", help="whether the final model learns from validation rows")
    made.add_argument("--recipe", default="transformer", help=", ".join(recipes.RECIPES))
    made.add_argument("--seed", type=int, default=7)
    made.add_argument("--threads", type=int, default=1)
    made.add_argument("--k", type=lambda text: [int(k) for k in text.split(",")], default=[10, 20, 50, 200])
    made.add_argument("--out", type=Path, required=True)
    return made


class Phases:
    """Wall seconds by phase."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._begin = time.monotonic()

    def done(self, phase: str) -> None:
        now = time.monotonic()
        self.seconds[phase], self._begin = round(now - self._begin, 1), now


def _systems(data: Dataset, requests: Requests, ordered: bool, towers: Scores) -> dict[str, Scores]:
    return {"popularity": systems.popularity(data, requests), "knn": systems.sequential_knn(data, requests, ordered), "towers": towers}


def _named(requests: Requests, made: dict[str, Scores], weight: float, data: Dataset) -> dict[str, Scores]:
    model = made["towers"] if weight == 0 else _blended(requests, made, weight)
    return {**made, "model": model}


def _blended(requests: Requests, made: dict[str, Scores], weight: float) -> Scores:
    def seen(rows: np.ndarray) -> np.ndarray:
        hidden = np.zeros((len(rows), made["towers"](rows[:1]).shape[1]), bool)
        pairs = requests.seen(rows)
        hidden[pairs.request, pairs.title] = True
        return hidden

    return systems.blend(made["towers"], made["knn"], weight, seen)


def _choose(requests: Requests, made: dict[str, Scores], ks: list[int]) -> tuple[float, dict[str, float]]:
    """The weight of transitions with the best validation figure; 0 (the towers alone) where none is better."""
    found = {0.0: _mean(requests, made["towers"], ks)} | {w: _mean(requests, _blended(requests, made, w), ks) for w in BLEND_WEIGHTS}
    best = max(found, key=lambda w: round(found[w], 6))
    return best, {str(w): round(value, 5) for w, value in found.items()}


def _mean(requests: Requests, scores: Scores, ks: list[int]) -> float:
    values, _ = _ranked(requests, scores, ks, 0)
    return float(values[CHOSEN_BY].mean())


def _ranked(requests: Requests, scores: Scores, ks: list[int], listed: int) -> tuple[dict[str, np.ndarray], list[np.ndarray]]:
    """Figures per request, and the first `listed` titles of each."""
    parts, lists = [], []
    rows_at_once = max(SCORES_AT_ONCE // max(scores(np.arange(1)).shape[1], 1), 1)
    for begin in range(0, len(requests), rows_at_once):
        rows = np.arange(begin, min(begin + rows_at_once, len(requests)))
        scores_QT = scores(rows).astype(np.float32)
        relevant = requests.relevant(rows)
        ranking.exclude(scores_QT, requests.seen(rows), relevant)
        parts.append(ranking.figures(ranking.places(scores_QT, relevant), relevant.request, len(rows), ks))
        lists += [ranking.top(scores_T, listed) for scores_T in scores_QT] if listed else []
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}, lists


def _figures(requests: Requests, scores: Scores, data: Dataset, ks: list[int], seed: int) -> dict:
    values, lists = _ranked(requests, scores, ks, max(ks))
    out = {name: round(float(value_Q.mean()), 5) for name, value_Q in values.items()}
    for k in ks:
        shown = np.unique(np.concatenate([chosen[:k] for chosen in lists]))
        out[f"coverage@{k}"] = round(len(shown) / len(data.title_ids), 5)
    return out | {"bounds": {name: [round(b, 5) for b in ranking.bounds(values[name], seed)] for name in ("hr@10", "ndcg@10")}}


def _table(result: dict) -> str:
    names = ("hr@10", "ndcg@10", "recall@50", "hr@200", "coverage@10")
    rows = {"model": result["test"], **{name: figures["test"] for name, figures in result["beside"].items()}}
    lines = ["| test | " + " | ".join(names) + " |", "| --- |" + " --- |" * len(names)]
    lines += ["| " + " | ".join([system, *(f"{figures[name]:.4f}" if name in figures else "" for name in names)]) + " |"
              for system, figures in rows.items()]
    return "\n".join(lines)


if __name__ == "__main__":
    main()

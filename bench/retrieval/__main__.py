"""Retrieval quality on any interactions, full ranking, seen titles left out.

    python -m bench.retrieval --interactions FILE.parquet --protocol roles --out result.json

`interactions`: profile_id, title_id, ts (any increasing order; seconds since 1970 also give time gaps), optional rating
and role (train, valid, test). `titles` and `profiles`: one row an id with whatever is known of it.
"""

import argparse
from dataclasses import asdict

import numpy as np
from scipy.sparse import csr_matrix

from bench.retrieval import arguments, baselines, recipes, systems
from bench.retrieval import data as dataset
from bench.retrieval.data import VALID, Dataset
from bench.retrieval.evaluate import CHOSEN_BY, Phases, Scores, figures, qualities, table
from bench.retrieval.requests import Requests, both_parts, by_gap, counts
from jobs.index.config import IndexConfig

PROGRAM = "bench.retrieval"
SOURCES = "knn", "cowatch"
"""Beside the towers: next-watch transitions (in sets: item-based kNN), and what the same profiles watch."""
WEIGHTS = 0.0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8
"""Of each of them in the blend, where the towers have 1; validation picks."""


def main() -> None:
    arguments.carry_out(parser().parse_args(), PROGRAM, run,
                        lambda result: table({"model": result["test"], **{name: f["test"] for name, f in result["beside"].items()}}))


def run(options: argparse.Namespace) -> dict:
    """Everything that the result file holds."""
    clock = Phases()
    data = dataset.load(options.interactions, options.titles, options.profiles, options.protocol)
    ordered = not options.unordered
    config = recipes.recipe(options.recipe)(data, ordered, options.seed)
    valid, test = both_parts(data, options.fit, options.interactions)
    clock.done("read")
    trainer, fitted = systems.train(data, valid.learns, data.role == VALID, config, options.threads)
    clock.done("train")
    beside_config = baselines.cowatch_config(data, valid, ordered)
    tables = _tables(data, valid, ordered, beside_config)
    made = _systems(data, valid, ordered, trainer, tables)
    weights, by_weights = _choose(valid, made)
    valid_figures = _figures(data, valid, made, weights, options)
    clock.done("validate")
    if options.fit == "train+valid":
        trainer, _ = systems.train(data, test.learns, np.zeros(len(data.role), bool), systems.refit(config, fitted), options.threads)
        tables = _tables(data, test, ordered, beside_config)
        clock.done("train on validation rows too")
    test_figures = _figures(data, test, _systems(data, test, ordered, trainer, tables), weights, options)
    clock.done("test")
    return {
        "test": test_figures["model"], "valid": valid_figures["model"],
        "beside": {name: {"test": test_figures[name], "valid": valid_figures[name]} for name in test_figures if name != "model"},
        "model": {"kind": _kind(weights, ordered), "weights": weights,
                  "cowatch": {name: getattr(beside_config, f"cowatch_{name}") for name in ("regularization", "dropout", "share")},
                  f"valid {CHOSEN_BY} by weights": by_weights, "best_epoch": fitted.best + 1, "curve": [asdict(point) for point in fitted.curve]},
        "data": {**data.shape(), "requests": counts(valid, test)},
        "configuration": {"protocol": options.protocol, "fit": options.fit, "ordered": ordered, "recipe": options.recipe,
                          "seed": options.seed, "threads": options.threads, "seen": "left out", "towers": asdict(config)},
        **clock.report(),
    }


def parser() -> argparse.ArgumentParser:
    made = arguments.parser(f"python -m {PROGRAM}", __doc__)
    made.add_argument("--recipe", default=recipes.DEFAULT, help=", ".join(recipes.RECIPES))
    return made


def _kind(weights: dict[str, float], ordered: bool) -> str:
    named = {"knn": "transitions" if ordered else "item-based kNN", "cowatch": "co-watch"}
    return " and ".join(["towers", *(named[source] for source, weight in weights.items() if weight)])


def _tables(data: Dataset, requests: Requests, ordered: bool, config: IndexConfig) -> dict[str, csr_matrix]:
    """Of what the requests' rows teach."""
    return {"knn": baselines.knn_table(data, requests.learns, ordered), "cowatch": baselines.cowatch_table(data, requests.learns, config)}


def _systems(
    data: Dataset, requests: Requests, ordered: bool, trainer: systems.Trainer, tables: dict[str, csr_matrix]
) -> dict[str, Scores]:
    return {
        "popularity": baselines.popularity(data, requests), "towers": systems.towers(data, requests, trainer),
        **{name: vote(data, requests, tables[name], ordered) for name, vote in (("knn", baselines.knn), ("cowatch", baselines.cowatch))},
    }


def _model(requests: Requests, made: dict[str, Scores], weights: dict[str, float]) -> Scores:
    blended = systems.blends(made, [{"towers": 1.0, **weights}], requests)
    return lambda rows: next(blended(rows))


def _choose(requests: Requests, made: dict[str, Scores]) -> tuple[dict[str, float], dict[str, float]]:
    """The weights with the best validation figure, one source after the other until none changes; of equal ones the
    smallest. Beside them all figures looked at."""
    found: dict[tuple[float, ...], float] = {}
    best, before = (0.0,) * len(SOURCES), None
    while best != before:
        before = best
        for place in range(len(SOURCES)):
            tried = [(*best[:place], weight, *best[place + 1 :]) for weight in WEIGHTS]
            new = [weights for weights in tried if weights not in found]
            blended = systems.blends(made, [{"towers": 1.0, **dict(zip(SOURCES, weights))} for weights in new], requests)
            found |= zip(new, qualities(requests, blended), strict=True) if new else ()
            best = max(tried, key=lambda weights: found[weights])
    return dict(zip(SOURCES, best)), {" ".join(f"{w:g}" for w in weights): value for weights, value in found.items()}


def _figures(
    data: Dataset, requests: Requests, made: dict[str, Scores], weights: dict[str, float], options: argparse.Namespace
) -> dict[str, dict]:
    made, slices = {**made, "model": _model(requests, made, weights)}, by_gap(data, requests)
    return {name: figures(requests, scores, options.k, options.seed, slices) for name, scores in made.items()}


if __name__ == "__main__":
    main()

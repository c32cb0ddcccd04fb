"""Retrieval quality on any interactions, full ranking, seen titles left out.

    python -m bench.retrieval --interactions FILE.parquet --protocol roles --out result.json

`interactions`: profile_id, title_id, ts (any increasing order; seconds since 1970 also give time gaps), optional rating
and role (train, valid, test). `titles` and `profiles`: one row an id with whatever is known of it.
"""

import argparse
from dataclasses import asdict

import numpy as np

from bench.retrieval import arguments, baselines, recipes, systems
from bench.retrieval import data as dataset
from bench.retrieval.data import VALID, Dataset
from bench.retrieval.evaluate import CHOSEN_BY, Phases, Scores, figures, quality, table
from bench.retrieval.requests import Requests, both_parts

PROGRAM = "bench.retrieval"
BLEND_WEIGHTS = (0.1, 0.2, 0.4, 0.8, 1.6)
"""Of next-watch transitions beside the towers; validation picks one, or none."""


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
    weight, by_weight = _choose(data, valid, ordered, trainer)
    valid_figures = _figures(valid, _systems(data, valid, ordered, trainer, weight), options)
    clock.done("validate")
    if options.fit == "train+valid":
        trainer, _ = systems.train(data, test.learns, np.zeros(len(data.role), bool), systems.refit(config, fitted), options.threads)
        clock.done("train on validation rows too")
    test_figures = _figures(test, _systems(data, test, ordered, trainer, weight), options)
    clock.done("test")
    return {
        "test": test_figures["model"], "valid": valid_figures["model"],
        "beside": {name: {"test": test_figures[name], "valid": valid_figures[name]} for name in test_figures if name != "model"},
        "model": {"kind": "towers" if weight == 0 else "towers and transitions", "transition_weight": weight,
                  f"valid {CHOSEN_BY} by weight": by_weight, "best_epoch": fitted.best + 1,
                  "curve": [asdict(point) for point in fitted.curve]},
        "data": {**data.shape(), "requests": {"valid": len(valid), "test": len(test)}},
        "configuration": {"protocol": options.protocol, "fit": options.fit, "ordered": ordered, "recipe": options.recipe,
                          "seed": options.seed, "threads": options.threads, "seen": "left out", "towers": asdict(config)},
        **clock.report(),
    }


def parser() -> argparse.ArgumentParser:
    made = arguments.parser(f"python -m {PROGRAM}", __doc__)
    made.add_argument("--recipe", default=recipes.DEFAULT, help=", ".join(recipes.RECIPES))
    return made


def _systems(data: Dataset, requests: Requests, ordered: bool, trainer: systems.Trainer, weight: float) -> dict[str, Scores]:
    made = {"popularity": baselines.popularity(data, requests), "knn": baselines.sequential_knn(data, requests, ordered),
            "towers": systems.towers(data, requests, trainer)}
    return {**made, "model": _model(requests, made, weight)}


def _model(requests: Requests, made: dict[str, Scores], weight: float) -> Scores:
    return made["towers"] if weight == 0 else systems.blend(made["towers"], made["knn"], weight, requests)


def _choose(data: Dataset, requests: Requests, ordered: bool, trainer: systems.Trainer) -> tuple[float, dict[str, float]]:
    """The weight of transitions with the best validation figure; 0 (the towers alone) where none is better."""
    made = _systems(data, requests, ordered, trainer, 0.0)
    found = {w: quality(requests, _model(requests, made, w)) for w in (0.0, *BLEND_WEIGHTS)}
    best = max(found, key=lambda w: round(found[w], 6))
    return best, {str(w): round(value, 5) for w, value in found.items()}


def _figures(requests: Requests, made: dict[str, Scores], options: argparse.Namespace) -> dict[str, dict]:
    return {name: figures(requests, scores, options.k, options.seed) for name, scores in made.items()}


if __name__ == "__main__":
    main()

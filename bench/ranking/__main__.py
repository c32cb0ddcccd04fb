"""Quality of the whole funnel, retrieval then ranker, on the interactions and protocols of bench.retrieval.

    python -m bench.ranking --interactions FILE.parquet --protocol roles --out result.json

The ranker learns on training's newest rows, which the towers have not learnt; with `--fit train+valid` both stages learn
again one step later: the towers on all training rows, the ranker on validation's.
"""

import argparse
from dataclasses import asdict, dataclass, replace

import numpy as np

from bench.ranking import funnel
from bench.ranking.block import before_ranker
from bench.ranking.funnel import Rankers
from bench.ranking.pools import Retrieved
from bench.retrieval import arguments, baselines, recipes, systems
from bench.retrieval import data as dataset
from bench.retrieval.data import TRAIN, VALID, Dataset
from bench.retrieval.evaluate import Phases, Scores, figures, table
from bench.retrieval.requests import Requests, both_parts, by_gap, counts, requests_of
from jobs.ranker.config import RankerConfig

PROGRAM = "bench.ranking"


@dataclass(frozen=True)
class Stage:
    """What learnt what: towers on `learns`, the ranker on `lists`."""

    trainer: systems.Trainer
    learns_E: np.ndarray
    lists: list


def main() -> None:
    arguments.carry_out(parser().parse_args(), PROGRAM, run,
                        lambda result: table({"model": result["test"], **{name: f["test"] for name, f in result["beside"].items()}}))


def parser() -> argparse.ArgumentParser:
    made = arguments.parser(f"python -m {PROGRAM}", __doc__)
    made.add_argument("--recipe", default=recipes.DEFAULT, help=f"of the towers: {', '.join(recipes.RECIPES)}")
    made.add_argument("--pool", type=arguments.at_least_one, default=RankerConfig.pool_size, help="candidates of a request")
    return made


def run(options: argparse.Namespace) -> dict:
    """Everything that the result file holds."""
    clock = Phases()
    data = dataset.load(options.interactions, options.titles, options.profiles, options.protocol)
    valid, test = both_parts(data, options.fit, options.interactions)
    towers_config = recipes.recipe(options.recipe)(data, not options.unordered, options.seed)
    config = RankerConfig(seed=options.seed, pool_size=options.pool)
    clock.done("read")
    earlier = before_ranker(data, config.max_requests, options.seed)
    trainer, fitted = systems.train(data, earlier.role == TRAIN, data.role == VALID, towers_config, options.threads)
    clock.done("train towers")
    stage = _stage(earlier, trainer, options, config)
    rankers = Rankers.chosen(stage.lists, _retrieved(data, valid, stage, options), config, options.threads)
    clock.done("train ranker")
    valid_figures = _figures(data, valid, stage, rankers, options, config)
    clock.done("validate")
    if options.fit == "train+valid":
        trainer, _ = systems.train(data, valid.learns, np.zeros(len(data.role), bool), systems.refit(towers_config, fitted), options.threads)
        clock.done("train towers one step later")
        stage = _stage(data, trainer, options, config)
        clock.done("train ranker one step later")
    test_figures = _figures(data, test, stage, rankers, options, config)
    clock.done("test")
    kind = rankers.choice.spec.kind
    return {
        "test": test_figures[kind], "valid": valid_figures[kind],
        "beside": {name: {"test": test_figures[name], "valid": valid_figures[name]} for name in test_figures},
        "model": {"kind": kind, "reason": rankers.choice.spec.reason, "valid ndcg@10 of a sample": rankers.choice.spec.validation,
                  "blend_weights": rankers.weights, "rounds": rankers.rounds, "ranker_requests": len(stage.lists), "best_epoch": fitted.best + 1},
        "data": {**data.shape(), "requests": counts(valid, test)},
        "configuration": {"protocol": options.protocol, "fit": options.fit, "ordered": not options.unordered, "recipe": options.recipe,
                          "seed": options.seed, "threads": options.threads, "seen": "left out", "towers": asdict(towers_config), "ranker": asdict(config)},
        **clock.report(),
    }


def _stage(data: Dataset, trainer: systems.Trainer, options: argparse.Namespace, config: RankerConfig) -> Stage:
    """The ranker's lists: what `data` asks for in validation, answered by towers that learnt its training rows."""
    stage = Stage(trainer, data.role == TRAIN, [])
    return replace(stage, lists=funnel.lists_to_learn(_retrieved(data, requests_of(data, VALID, "train"), stage, options), config))


def _retrieved(data: Dataset, requests: Requests, stage: Stage, options: argparse.Namespace) -> Retrieved:
    """Counts and transitions learn what the towers learn, so that both are equally old wherever the ranker is asked."""
    requests = replace(requests, learns=stage.learns_E)
    return Retrieved.of(data, requests, systems.towers(data, requests, stage.trainer), not options.unordered, options.pool)


def _figures(data: Dataset, requests: Requests, stage: Stage, rankers: Rankers, options: argparse.Namespace, config: RankerConfig) -> dict[str, dict]:
    retrieved = _retrieved(data, requests, stage, options)
    ordered = not options.unordered
    made: dict[str, Scores] = {
        "popularity": baselines.popularity(data, requests),
        "knn": baselines.knn(data, requests, baselines.knn_table(data, requests.learns, ordered), ordered),
    }
    made |= {kind: funnel.full_ranking(retrieved, order) for kind, order in rankers.orders(stage.lists, config, options.threads).items()}
    slices = by_gap(data, requests)
    return {name: figures(requests, scores, options.k, options.seed, slices) for name, scores in made.items()}


if __name__ == "__main__":
    main()

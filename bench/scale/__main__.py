"""Trains a recipe's towers on a made-up service, embeds its whole catalogue, and asks every recipe's ONNX towers.

    python -m bench.scale [--titles 600000] [--interactions 5000000] [--recipe pooled] [--epochs 1] [--steps N] --out result.json

Seconds are wall time; `cpu_seconds` say how much of a shared machine was had. Peak memory is of the whole process,
the making of the data included.
"""

import argparse
import json
import time
from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnxruntime
import torch

from bench.retrieval import arguments
from bench.retrieval.evaluate import Phases
from bench.scale.service import Catalogue, training_data
from contracts.errors import UsageError
from contracts.query import QUERY_OUTPUT
from contracts.release import ITEM_TOWER, QUERY_TOWER
from jobs import recipes, text
from jobs.embed import Embedder
from jobs.towers.config import TowersConfig
from jobs.towers.dataset import Windows
from jobs.towers.export import export, query_examples
from jobs.towers.fit import Trainer
from jobs.towers.model import Towers

ANSWERS = 300


def main() -> None:
    parser = argparse.ArgumentParser("python -m bench.scale", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--titles", type=int, default=600_000)
    parser.add_argument("--interactions", type=int, default=5_000_000)
    parser.add_argument("--recipe", default="pooled", help=", ".join(recipes.RECIPES))
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--steps", type=int, default=0, help="of an epoch at most; 0: all")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, required=True)
    arguments.carry_out(parser.parse_args(), "bench.scale", run, lambda result: json.dumps(result, indent=1))


def run(options: argparse.Namespace) -> dict:
    """Everything that the result file holds."""
    if min(options.titles, options.interactions, options.epochs) < 1:
        raise UsageError("--titles, --interactions and --epochs are at least 1")
    recipe = recipes.recipe(options.recipe)
    config = replace(recipe.towers, epochs=options.epochs, seed=options.seed)
    catalogue = Catalogue(options.titles, options.seed)
    phases = Phases()
    encoder = text.fit(config.text_encoder, [content.text for content in catalogue])
    data = training_data(catalogue, options.interactions, encoder)
    phases.done("data")
    trainer = Trainer(data, config, torch.device("cpu"), options.threads)
    phases.done("prepare")
    steps = Steps(trainer.windows, options.steps)
    fitted = trainer.run(steps)
    phases.done("train")
    id_index = data.id_index(config.min_plays_for_id)
    del trainer, data
    with TemporaryDirectory() as folder:
        parity = export(fitted.towers, fitted.id_titles, config, Path(folder), encoder)
        phases.done("export")
        Embedder(Path(folder) / ITEM_TOWER, "cpu", options.threads).embed(catalogue, id_index, recipe.index.embed_batch)
        phases.done("embed")
        onnx = {options.recipe: {"parity": max(parity.values()), "milliseconds": milliseconds(Path(folder), config)}}
    onnx |= {name: answers(recipes.recipe(name).towers, options.seed) for name in recipes.RECIPES if name != options.recipe}
    return {
        "positives_per_second": round(steps.positives / steps.seconds), "positives_per_cpu_second": round(steps.positives / steps.cpu_seconds),
        "embed_seconds": phases.seconds["embed"],
        "positives": steps.positives, "labels": fitted.labels, "recall": fitted.curve[fitted.best].recall, "recall_at": config.recall_at,
        "popularity_recall": fitted.popularity_recall, **phases.report(), "onnx": onnx,
        "configuration": {"titles": options.titles, "interactions": options.interactions, "recipe": options.recipe,
                          "seed": options.seed, "threads": options.threads, "steps": options.steps, "id_titles": len(fitted.id_titles), "towers": asdict(config)},
    }


class Steps:
    """Positives and time of training steps alone, without the look at held-out plays after each epoch; at most `most`
    steps an epoch, 0: all."""

    def __init__(self, windows: Windows, most: int) -> None:
        self.labels_W, self.most = np.diff(windows.label_start), most
        self.positives, self.seconds, self.cpu_seconds = 0, 0.0, 0.0

    def __call__(self, plan: list[np.ndarray], what: str) -> Iterable[np.ndarray]:
        plan = plan[: self.most or len(plan)]
        self.positives += sum(int(self.labels_W[chosen].sum()) for chosen in plan)
        wall, cpu = time.monotonic(), time.process_time()
        yield from plan
        self.seconds += time.monotonic() - wall
        self.cpu_seconds += time.process_time() - cpu


def answers(config: TowersConfig, seed: int) -> dict[str, float]:
    """Parity and time of a recipe's towers, untrained."""
    torch.manual_seed(seed)
    with TemporaryDirectory() as folder:
        parity = export(Towers(config, 1000), [f"t{i:04}" for i in range(1000)], config, Path(folder))
        return {"parity": max(parity.values()), "milliseconds": milliseconds(Path(folder), config)}


def milliseconds(folder: Path, config: TowersConfig) -> float:
    """The median of ANSWERS queries of one profile with a full history, on one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(folder / QUERY_TOWER), options, providers=["CPUExecutionProvider"])
    profile = {name: rows[:1] for name, rows in query_examples(config).items()}
    taken = []
    for _ in range(ANSWERS):
        begin = time.perf_counter()
        session.run([QUERY_OUTPUT], profile)
        taken.append(time.perf_counter() - begin)
    return round(float(np.median(taken)) * 1000, 3)


if __name__ == "__main__":
    main()

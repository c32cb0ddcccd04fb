"""How towers rank titles that they have never seen, among themselves.

    python -m bench.cold --interactions FILE.parquet --titles FILE.parquet --protocol roles --out result.json

Of each split a share of the titles is out of training, with all its rows. A request is the first play of such a title
among a profile's validation rows (`--on valid`, what choices are made by) or test rows (`--on test`), after everything
that stands before it; the titles that were held out compete, without those that the profile has seen. Beside the
towers: random order, and an oracle that knows how often each title is played in the whole file. Plays among the
training rows are not asked for: the towers have learnt what followed them. Nor is a title that the profile played before.

Shape suffixes: E interactions, T titles, C held-out titles, Q requests.
"""

import argparse
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from bench.retrieval import arguments, recipes, systems
from bench.retrieval import data as dataset
from bench.retrieval.data import TEST, TRAIN, VALID, Dataset
from contracts.errors import UsageError
from jobs.evaluation import ranking
from jobs.evaluation.ranking import Pairs
from jobs.towers.config import TowersConfig

KS = (5, 10, 20)
SHOWN = ("hr@10", "ndcg@10", "mrr")


@dataclass(frozen=True)
class Asked:
    """Q requests: `length` rows from `first` are the history, and the row after them is the play asked for."""

    first: np.ndarray
    length: np.ndarray

    def __len__(self) -> int:
        return len(self.first)


def main() -> None:
    arguments.carry_out(parser().parse_args(), "bench.cold", run, table)


def table(result: dict) -> str:
    """Means over the splits as a Markdown table."""
    lines = ["| | " + " | ".join(SHOWN) + " |", "| --- |" + " --- |" * len(SHOWN)]
    lines += [f"| {system} | " + " | ".join(f"{figures[name]:.4f}" for name in SHOWN) + " |" for system, figures in result["mean"].items()]
    return "\n".join(lines)


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser("python -m bench.cold", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--interactions", type=Path, required=True)
    made.add_argument("--titles", type=Path, required=True)
    made.add_argument("--profiles", type=Path)
    made.add_argument("--protocol", choices=dataset.PROTOCOLS, required=True)
    made.add_argument("--recipe", default=recipes.DEFAULT, help=", ".join(recipes.RECIPES))
    made.add_argument("--on", choices=("valid", "test"), default="valid")
    made.add_argument("--share", type=float, default=0.05, help="of the titles that is held out")
    made.add_argument("--seeds", type=_seeds, default=[0, 1, 2], help="one split each")
    made.add_argument("--text-encoder", default=TowersConfig.text_encoder, help="of titles' texts: tf-idf svd, hashed words, …")
    made.add_argument("--threads", type=arguments.at_least_one, default=arguments.cores(), help="all cores unless told otherwise")
    made.add_argument("--out", type=Path, required=True)
    return made


def _seeds(text: str) -> list[int]:
    found = [arguments.seed(one) for one in text.split(",")]
    if len(set(found)) < len(found):
        raise argparse.ArgumentTypeError(f"{text}: a seed twice is one split twice")
    return found


def run(options: argparse.Namespace) -> dict:
    """Everything that the result file holds."""
    if not 0 < options.share < 1:
        raise UsageError(f"--share {options.share}: a number between 0 and 1 is needed")
    data = dataset.load(options.interactions, options.titles, options.profiles, options.protocol)
    configs = [replace(recipes.recipe(options.recipe)(data, True, seed), text_encoder=options.text_encoder) for seed in options.seeds]
    splits = [split(data, config, options.share, options.on, options.threads) for config in configs]
    return {
        "mean": {system: {name: round(float(np.mean([s[system][name] for s in splits])), 5) for name in splits[0][system] if name != "bounds"}
                 for system in ("towers", "random", "oracle popularity")},
        "spread": {name: round(float(np.std([s["towers"][name] for s in splits])), 5) for name in SHOWN},
        "splits": splits,
        "configuration": {"protocol": options.protocol, "recipe": options.recipe, "on": options.on, "share": options.share,
                          "seeds": options.seeds, "threads": options.threads, "towers": asdict(configs[0])},
    }


def split(data: Dataset, config: TowersConfig, share: float, on: str, threads: int) -> dict:
    """One split, drawn by the configuration's seed: trains without the titles held out and ranks them."""
    begin = time.monotonic()
    cold_T = held_out(data, share, config.seed)
    asked = requests(data, cold_T, on)
    if cold_T.sum() <= max(KS[:-1]):
        raise UsageError(f"{cold_T.sum()} titles held out: all of them are among the first {max(KS[:-1])} whoever ranks; --share {share} is too small")
    if not len(asked):
        raise UsageError(f"seed {config.seed}: none of the {cold_T.sum()} titles held out has a play to ask for on {on} rows")
    warm_E = ~cold_T[data.title]
    trainer, fitted = systems.train(data, warm_E & (data.role == TRAIN), warm_E & (data.role == VALID), config, threads)
    vectors_AD = trainer.title_vectors()
    query_QD = trainer.closing_queries(systems.closing_windows(data, asked, config.history_length), vectors_AD)
    played_C = np.bincount(data.title, minlength=len(cold_T))[cold_T]
    shape = len(asked), len(played_C)
    scores = {"towers": query_QD @ vectors_AD.cpu().numpy()[cold_T].T,
              "random": np.random.default_rng(config.seed).random(shape, np.float32),
              "oracle popularity": np.tile(played_C.astype(np.float32), (len(asked), 1))}
    return {"seed": config.seed, "titles": len(played_C), "requests": len(asked), "best_epoch": fitted.best + 1,
            "seconds": round(time.monotonic() - begin, 1),
            **{name: figures(data, cold_T, asked, scores_QC, config.seed) for name, scores_QC in scores.items()}}


def held_out(data: Dataset, share: float, seed: int) -> np.ndarray:
    """(T,) bool: the share of the titles with a play, drawn uniformly."""
    played = np.unique(data.title)
    drawn = np.random.default_rng(seed).permutation(played)[: max(round(share * len(played)), 1)]
    return np.isin(np.arange(len(data.title_ids)), drawn)


def requests(data: Dataset, cold_T: np.ndarray, on: str) -> Asked:
    """The first play of a held-out title in each profile's rows of the part, of those that it had not played before: of one
    asked for again the rivals would go and it would stay."""
    _, first_plays = np.unique(data.profile * len(cold_T) + data.title, return_index=True)
    rows = np.sort(first_plays)
    rows = rows[cold_T[data.title[rows]] & (data.role[rows] == (TEST if on == "test" else VALID))]
    _, one = np.unique(data.profile[rows], return_index=True)
    first = data.first()[data.profile[rows[one]]]
    return Asked(first, rows[one] - first)


def figures(data: Dataset, cold_T: np.ndarray, asked: Asked, scores_QC: np.ndarray, seed: int) -> dict:
    """Means over requests, and bootstrap bounds of HR@10."""
    column_T = np.cumsum(cold_T) - 1
    request = np.repeat(np.arange(len(asked)), asked.length)
    row = np.arange(len(request)) - np.repeat(np.cumsum(asked.length) - asked.length, asked.length) + asked.first[request]
    cold = cold_T[data.title[row]]
    relevant = Pairs(np.arange(len(asked)), column_T[data.title[asked.first + asked.length]])
    ranking.exclude(scores_QC, Pairs(request[cold], column_T[data.title[row[cold]]]), relevant)
    values = ranking.figures(ranking.places(scores_QC, relevant), relevant.request, len(asked), KS)
    return {name: round(float(value_Q.mean()), 5) for name, value_Q in values.items()} | {
        "bounds": {"hr@10": [round(bound, 5) for bound in ranking.bounds(values["hr@10"], seed)]}}


if __name__ == "__main__":
    main()

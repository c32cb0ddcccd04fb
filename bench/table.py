"""README's table of retrieval and ranking quality, from the result files in bench/results.

    python -m bench.table

A result is named DATA.WHAT.SEED.json, as in `ml-1m.retrieval.7.json`: results that differ in the seed only become one row,
mean and spread (standard deviation, from two seeds on).
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np

from contracts.errors import UsageError
from contracts.settings import REPOSITORY

RESULTS, README = Path(__file__).parent / "results", REPOSITORY / "README.md"
BEGIN, END = "<!-- quality -->", "<!-- /quality -->"
FIGURES = ("hr@10", "ndcg@10", "hr@200", "coverage@10")


@dataclass(frozen=True)
class Row:
    """One system of one result file."""

    data: str
    system: str
    test: dict
    minutes: float
    gib: float


def rows(folder: Path = RESULTS) -> list[Row]:
    """Of every result file, in order of the names. Raises UsageError for a name of another form."""
    found = []
    for path in sorted(folder.glob("*.json")):
        parts = path.name.split(".")
        if len(parts) != 4:
            raise UsageError(f"{path}: results are named DATA.WHAT.SEED.json")
        result = json.loads(path.read_text())
        found += _of_peers(parts[0], result) if "peers" in result else _of_product(parts[0], result)
    return found


def _of_peers(data: str, result: dict) -> Iterator[Row]:
    for name, one in result["peers"].items():
        if "test" in one:
            yield Row(data, name, one["test"], one["cpu_seconds"]["train"] / 60, one["peak_memory_mib"] / 1024)


def _of_product(data: str, result: dict) -> Iterator[Row]:
    """What ships (towers blended as validation says, or the funnel), and its parts beside it."""
    said, seconds = result["configuration"], result["cpu_seconds"]
    minutes, gib = sum(s for phase, s in seconds.items() if phase.startswith("train")) / 60, result["peak_memory_mib"] / 1024
    recipe = f"recipe `{said['recipe']}`" + (", learnt from validation too" if said["fit"] == "train+valid" else "")
    if "ranker" not in said:
        yield Row(data, f"**Marquee: retrieval**, {recipe}", result["test"], minutes, gib)
        yield Row(data, f"the towers alone, {recipe}", result["beside"]["towers"]["test"], minutes, gib)
        return
    yield Row(data, f"**Marquee: the funnel**, {recipe}", result["test"], minutes, gib)
    for kind, name in (("retrieval", "retrieval order"), ("blend", "blend"), ("lambdamart", "LambdaMART")):
        if kind in result["beside"]:
            yield Row(data, f"the funnel's {name}, {recipe}", result["beside"][kind]["test"], minutes, gib)


def rendered(found: Iterable[Row]) -> str:
    """A table a data set, the worst system first."""
    parts = []
    for data, of_data in groupby(sorted(found, key=lambda row: (row.data, row.system)), lambda row: row.data):
        systems = [list(same) for _, same in groupby(of_data, lambda row: row.system)]
        systems.sort(key=lambda same: np.mean([row.test["ndcg@10"] for row in same]))
        parts.append("\n".join([
            f"| {data} | seeds | " + " | ".join(name.upper().replace("COVERAGE", "coverage") for name in FIGURES) + " | train, CPU minutes | GiB |",
            "| --- |" + " --- |" * (len(FIGURES) + 3), *map(_line, systems),
        ]))
    return "\n\n".join(parts) or "No results yet."


def _line(same: list[Row]) -> str:
    figures = [_figure([row.test[name] for row in same]) if name in same[0].test else "" for name in FIGURES]
    minutes, gib = np.mean([row.minutes for row in same]), max(row.gib for row in same)
    return f"| {same[0].system} | {len(same)} | {' | '.join(figures)} | {minutes:.1f} | {gib:.1f} |"


def _figure(values: list[float]) -> str:
    text = f"{np.mean(values):.3f}".removeprefix("0")
    return text if len(values) == 1 else f"{text} ± {np.std(values, ddof=1):.3f}".replace("± 0", "± ")


def written(text: str, table: str) -> str:
    """`text` with the table between its marks."""
    before, rest = text.split(BEGIN)
    return f"{before}{BEGIN}\n{table}\n{END}{rest.split(END)[1]}"


if __name__ == "__main__":
    README.write_text(written(README.read_text(), rendered(rows())))
    print(rendered(rows()))

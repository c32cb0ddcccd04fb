"""README's table, regenerated from the results between two marks."""

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

import numpy as np

BEGIN, END = "<!-- results -->", "<!-- /results -->"
WHAT = {"launch": "landing → first shelf that shows it", "closure": "early closure → last shelf that showed it"}


def write(readme: Path, results: Sequence[dict]) -> None:
    before, rest = readme.read_text().split(BEGIN)
    readme.write_text(f"{before}{BEGIN}\n{rendered(results)}\n{END}{rest.split(END)[1]}")


def rendered(results: Sequence[dict]) -> str:
    lines = ["| what | job every, looks every | catalogue | events | p50 s | p95 s | worst s |", "| --- | --- | --- | --- | --- | --- | --- |"]
    key = lambda row: (row["kind"] != "launch", row["period"], row["every"], row["titles"], row["seed"])  # noqa: E731
    for _, group in groupby(sorted(results, key=key), key):
        rows = list(group)
        seconds = [row["seconds"] for row in rows]
        figures = " | ".join(f"{value:.1f}" for value in (np.percentile(seconds, 50), np.percentile(seconds, 95), max(seconds)))
        lines.append(f"| {WHAT[rows[0]['kind']]} | {rows[0]['period']:g} s, {rows[0]['every']:g} s | {rows[0]['titles']} titles | {len(rows)} | {figures} |")
    return "\n".join(lines)

"""README's tables, regenerated from the results between two marks."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

BEGIN, END = "<!-- results -->", "<!-- /results -->"


def write(results: Path) -> None:
    rows = [json.loads(line) for line in results.read_text().splitlines()]
    readme = results.with_name("README.md")
    before, rest = readme.read_text().split(BEGIN)
    parts = [world(rows), yandex([row for row in rows if row["what"] == "yandex"])]
    readme.write_text(f"{before}{BEGIN}\n" + "\n\n".join(parts) + f"\n{END}{rest.split(END)[1]}")


def world(rows: Sequence[dict]) -> str:
    biased, flat = ([r for r in rows if r["what"] == "world" and r["flat"] is kind] for kind in (False, True))
    lines = ["| figure | attention falls | attention flat |", "| --- | --- | --- |"]
    for label, name in (("largest error of the curve at places 1 to 10", "error"), ("the same, but for slates already left", "error_open"),
                        ("the same by EM instead of exploration slots", "error_em")):
        lines.append(f"| {label} | {_spread([r[name] for r in biased])} | {_spread([r[name] for r in flat])} |")
    for name in (biased or flat)[0]["ndcg"]:
        lines.append(f"| NDCG@10, {name} | {_spread([r['ndcg'][name] for r in biased])} | {_spread([r['ndcg'][name] for r in flat])} |")
    lines.append(f"| oracle minus slate | {_spread([_gap(r, 'oracle') for r in biased])} | {_spread([_gap(r, 'oracle') for r in flat])} |")
    for name in ("slate-weighted", "slate-places"):
        lines.append(f"| share of that gap recovered by {name} | {_spread([_gap(r, name) / _gap(r, 'oracle') for r in biased])} | |")
    for name in ("slate-weighted", "slate-places", "pool-weighted", "pool-places"):
        base = name.split("-")[0]
        gains = [_spread([r["ndcg"][name] / r["ndcg"][base] - 1 for r in group]) for group in (biased, flat)]
        lines.append(f"| {name} against {base}, relative | {gains[0]} | {gains[1]} |")
    return "\n".join(lines)


def yandex(rows: Sequence[dict]) -> str:
    lines = ["| appeal learnt with | log likelihood an impression | gained (standard error) | curve, places 1 to 10 |", "| --- | --- | --- | --- |"]
    lines += [f"| {r['way']} | {r['log_likelihood']:.4f} | {r['gain']:.4f} ({r['gain_error']:.4f}) | {', '.join(f'{v:.2f}' for v in r['curve'])} |"
              for r in rows]
    return "\n".join(lines)


def _gap(row: dict, name: str) -> float:
    return row["ndcg"][name] - row["ndcg"]["slate"]


def _spread(values: Sequence[float]) -> str:
    """Mean, and in brackets the lowest and the highest."""
    return f"{np.mean(values):.4f} ({min(values):.4f} to {max(values):.4f})" if values else "not measured"

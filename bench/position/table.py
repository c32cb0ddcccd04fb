"""README's tables, regenerated from the results between two marks."""

import json
from collections.abc import Callable, Sequence
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
    """A column for each attention and number of requests."""
    groups: dict[str, list[dict]] = {}
    curves = [r for r in rows if r["what"] == "curve"]
    for row in sorted((r for r in rows if r["what"] == "world"), key=lambda r: (r["flat"], r["requests"])):
        groups.setdefault(f"{'flat' if row['flat'] else 'falls'}, {row['requests']:,} requests, seeds", []).append(row)
    heads = [f"{name} {', '.join(str(r['seed']) for r in group)}" for name, group in groups.items()]
    lines = [f"| attention | {' | '.join(heads)} |", "| --- |" + " --- |" * len(heads)]

    def line(label: str, figure: Callable[[dict], float | None]) -> None:
        found = [[figure(row) for row in group] for group in groups.values()]
        lines.append(f"| {label} | {' | '.join(_spread([v for v in values if v is not None]) for values in found)} |")

    for label, name in (("largest error of the curve at places 1 to 10, against what places do to the log", "error_logged"),
                        ("against attention alone", "error"), ("by EM, against what places do to the log", "error_em_logged")):
        line(label, lambda row, name=name: (row | _same_world(curves, row)).get(name))
    for name in next(iter(groups.values()))[0]["ndcg"]:
        line(f"NDCG@10, {name}", lambda row, name=name: row["ndcg"][name])
    for name in dict.fromkeys(name for group in groups.values() for row in group for name in row.get("coverage", ())):
        line(f"coverage@20, {name}", lambda row, name=name: row.get("coverage", {}).get(name))
    for oracle in ("oracle", "oracle-thinned"):
        line(f"{oracle} minus slate", lambda row, oracle=oracle: _gap(row, oracle))
    for name in ("slate-weighted", "slate-places"):
        shares = [_recovered([row for row in group if not row["flat"]], name) for group in groups.values()]
        lines.append(f"| share of the oracle's gap recovered by {name}, of the sums | {' | '.join(shares)} |")
    for name in ("slate-weighted", "slate-places", "pool-weighted", "pool-places"):
        base = name.split("-")[0]
        line(f"{name} against {base}, relative", lambda row, name=name, base=base: row["ndcg"][name] / row["ndcg"][base] - 1)
    return "\n".join(lines)


def _same_world(curves: Sequence[dict], row: dict) -> dict:
    """The newest look at this world's curve; empty where there was none."""
    return next((c for c in reversed(curves) if all(c[k] == row[k] for k in ("seed", "flat", "sessions"))), {})


def yandex(rows: Sequence[dict]) -> str:
    lines = ["| appeal learnt with | log likelihood an impression | gained (standard error) | curve, places 1 to 10 |", "| --- | --- | --- | --- |"]
    lines += [f"| {r['way']} | {r['log_likelihood']:.4f} | {r['gain']:.4f} ({r['gain_error']:.4f}) | {', '.join(f'{v:.2f}' for v in r['curve'])} |"
              for r in rows]
    return "\n".join(lines)


def _recovered(rows: Sequence[dict], name: str) -> str:
    """Of the gaps of all seeds together, and each seed's: a small gap alone says little."""
    if not rows:
        return ""
    each = [_gap(row, name) / _gap(row, "oracle") for row in rows]
    return f"{sum(_gap(row, name) for row in rows) / sum(_gap(row, 'oracle') for row in rows):.4f} ({', '.join(f'{one:.2f}' for one in each)})"


def _gap(row: dict, name: str) -> float:
    return row["ndcg"][name] - row["ndcg"]["slate"]


def _spread(values: Sequence[float]) -> str:
    """Mean, and in brackets the lowest and the highest."""
    return f"{np.mean(values):.4f} ({min(values):.4f} to {max(values):.4f})" if values else ""

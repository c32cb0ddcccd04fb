"""The report's plots, as SVG text that stands inside the page: no external reference, equal inputs give equal text."""

import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib

matplotlib.use("Agg")

import numpy as np
from matplotlib.figure import Figure

from jobs.evaluation.figures import CANDIDATE, CONFIDENCE, CORRECTED, LIVE, PLAYED, POPULARITY, RETRIEVAL

COLOURS = {CANDIDATE: "#3557d6", LIVE: "#7a7f8c", POPULARITY: "#d08a2e", RETRIEVAL: "#3f9b7a"}
LABELS = {**CORRECTED.labels, **PLAYED.labels}
BEYOND = {"coverage_at_10": "coverage@10", "genre_diversity_at_10": "genre diversity@10",
          "popularity_share_at_10": "share of most played tenth@10", "genre_miscalibration_at_10": "genre miscalibration@10"}
STYLE = {"svg.hashsalt": "marquee", "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 9,
         "axes.spines.top": False, "axes.spines.right": False, "axes.edgecolor": "#9aa0ad", "axes.titlesize": 10,
         "legend.frameon": False, "legend.fontsize": 8}


def quality(figures: Mapping[str, Any]) -> str:
    """Bars of the funnel's metrics by system, with bounds of each mean."""
    return _bars(figures["systems"], PLAYED.labels, f"Quality of the funnel on logged plays, with one-sided {CONFIDENCE:.0%} bounds", bounds=True)


def corrected(figures: Mapping[str, Any] | None) -> str:
    """The same on labels that no ranking chose; empty where there are none."""
    if not figures:
        return ""
    said = f"{figures['explored']} engagements in exploration slots, effective sample size {figures['effective']:.0f}"
    return _bars(figures["systems"], CORRECTED.labels, f"Corrected for what was shown ({said})", bounds=True)


def beyond_accuracy(figures: Mapping[str, Any]) -> str:
    """Coverage, diversity, popularity and calibration by system."""
    return _bars(figures["systems"], BEYOND, "Beyond accuracy")


def differences(figures: Mapping[str, Any]) -> str:
    """The headline figure of the candidate minus each baseline, with bounds: overall and by slice against the first."""
    headline = figures["headline"]
    rows = [(f"overall against {b}", found[headline]) for b, found in figures["differences"].items() if found[headline]]
    against = LIVE if LIVE in figures["differences"] else POPULARITY
    rows += [(f"{s['name']}: {s['value']} against {against}", s["differences"][against])
             for s in figures["slices"] if s["differences"].get(against)]
    return _forest(rows, f"{LABELS[headline]} gained or lost, with bounds ({figures['bounds']})")


def recall_by_slice(figures: Mapping[str, Any]) -> str:
    """Horizontal bars of recall@200 by slice and system."""
    slices = figures["slices"]
    figure, axes = _axes(7.2, 1.0 + 0.42 * max(1, len(slices)))
    systems = [s for s in figures["systems"] if s != RETRIEVAL]
    height = 0.8 / max(1, len(systems))
    for place, system in enumerate(systems):
        values = [s["systems"][system]["recall_at_200"] or 0.0 for s in slices]
        axes.barh(np.arange(len(slices)) + place * height, values, height, color=COLOURS[system], label=system)
    axes.set_yticks(np.arange(len(slices)) + 0.4 - height / 2, [f"{s['name']}: {s['value']} ({s['requests']})" for s in slices])
    axes.invert_yaxis()
    _title(axes.figure, "recall@200 of the retrieval pool by slice (requests)")
    axes.legend(loc="lower right")
    return _svg(figure)


def latency(milliseconds: Mapping[str, Sequence[float]]) -> str:
    """Histogram of answer times as the judge's clients saw them."""
    figure, axes = _axes(7.2, 2.4)
    longest = max((np.quantile(values, 0.99) for values in milliseconds.values() if len(values)), default=1.0)
    for system, values in milliseconds.items():
        axes.hist(np.clip(values, 0, longest), bins=40, range=(0, longest), color=COLOURS[system], alpha=0.6, label=system)
    axes.set_xlabel("milliseconds (the slowest hundredth in the last bar)")
    _title(axes.figure, "Latency of shelves under the judge's load")
    axes.legend()
    return _svg(figure)


def learning(curve: Mapping[str, Sequence[float]]) -> str:
    """A panel a metric of the towers' curve; empty without one."""
    if not curve:
        return ""
    figure = _figure(7.2, 2.2)
    for place, (name, values) in enumerate(sorted(curve.items())[:3], 1):
        axes = figure.add_subplot(1, min(3, len(curve)), place)
        axes.plot(np.arange(1, len(values) + 1), values, color=COLOURS[CANDIDATE], marker="o", markersize=3)
        axes.set_title(f"towers: {name} by epoch")
    return _svg(figure)


def ranker_choice(ranker: Mapping[str, Any]) -> str:
    """Bars of what the ranker was picked from, the pick in colour; empty where there was nothing to pick from."""
    validation = ranker.get("validation") or {}
    if not validation:
        return ""
    figure, axes = _axes(7.2, 0.8 + 0.22 * len(validation))
    picked = ranker.get("picked") or max(validation, key=lambda name: validation[name])
    names = list(validation)
    axes.barh(names, [validation[n] for n in names], color=[COLOURS[CANDIDATE] if n == picked else "#c6cbd8" for n in names])
    axes.invert_yaxis()
    _title(axes.figure, "Ranker: NDCG@10 of the choices on held-out profiles of the ranker's block")
    return _svg(figure)


def attention(found: Mapping[str, Any]) -> str:
    """The attention curve with its bounds, and the devices' own; empty where none was estimated."""
    if found.get("kind", "none") == "none":
        return ""
    figure, axes = _axes(7.2, 2.6)
    place = np.arange(1, len(found["curve"]) + 1)
    axes.fill_between(place, *found["bounds"], color=COLOURS[CANDIDATE], alpha=0.15, linewidth=0)
    axes.plot(place, found["curve"], color=COLOURS[CANDIDATE], marker="o", markersize=3, label="all devices, 95 % bounds")
    for dash, (device, curve) in zip(("--", ":", "-.", (0, (1, 3))) * len(found["by_device"]), found["by_device"].items()):
        axes.plot(place, curve, color="#7a7f8c", linestyle=dash, linewidth=1, label=device)
    axes.set_xlabel("place on the slate")
    axes.set_ylim(0, None)
    _title(axes.figure, f"How likely each place is looked at, against place 1 ({found['kind']})")
    axes.legend()
    return _svg(figure)


def _bars(systems: Mapping[str, Mapping[str, Any]], labels: Mapping[str, str], title: str, bounds: bool = False) -> str:
    figure, axes = _axes(7.2, 2.8)
    width = 0.8 / max(1, len(systems))
    for place, (system, values) in enumerate(systems.items()):
        heights = np.array([values[name] or 0.0 for name in labels])
        errors = None
        if bounds:
            found = np.array([values["bounds"].get(name) or (h, h) for name, h in zip(labels, heights)])
            errors = np.abs(np.stack([heights - found[:, 0], found[:, 1] - heights]))
        axes.bar(np.arange(len(labels)) + place * width, heights, width, yerr=errors, color=COLOURS[system], label=system,
                 error_kw={"elinewidth": 1, "ecolor": "#333333"})
    axes.set_xticks(np.arange(len(labels)) + 0.4 - width / 2, list(labels.values()))
    _title(axes.figure, title)
    axes.legend()
    return _svg(figure)


def _forest(rows: Sequence[tuple[str, Mapping[str, float]]], title: str) -> str:
    figure, axes = _axes(7.2, 0.9 + 0.26 * max(1, len(rows)))
    for y, (_, d) in enumerate(rows):
        colour = "#3f9b7a" if d["low"] > 0 else "#c0392b" if d["high"] < 0 else "#7a7f8c"
        axes.plot([d["low"], d["high"]], [y, y], color=colour, linewidth=2)
        axes.plot([d["difference"]], [y], "o", color=colour, markersize=4)
    axes.axvline(0, color="#333333", linewidth=0.8)
    axes.set_yticks(range(len(rows)), [label for label, _ in rows])
    axes.invert_yaxis()
    _title(axes.figure, title)
    return _svg(figure)


def _title(figure: Figure, text: str) -> None:
    """Over the whole figure: long row labels leave an axes' own title no room."""
    figure.suptitle(text, x=0.01, ha="left", fontsize=10)


def _figure(width: float, height: float) -> Figure:
    with matplotlib.rc_context(STYLE):
        return Figure(figsize=(width, height), layout="constrained")


def _axes(width: float, height: float):
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        return figure, figure.subplots()


def _svg(figure: Figure) -> str:
    """The svg element alone: without the prologue, document type and metadata, which name addresses."""
    out = io.StringIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = out.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.S)
    head, rest = text.split(">", 1)
    return re.sub(r' (width|height)="[^"]*"', "", head) + ">" + rest

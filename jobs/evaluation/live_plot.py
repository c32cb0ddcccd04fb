"""Live quality over the nights as one picture, SVG and PNG, under `MARQUEE_HOME/quality`. No external reference."""

import os
import re
from collections.abc import Sequence
from datetime import date
from itertools import pairwise
from pathlib import Path

from contracts.settings import Settings
from ledger import LiveQuality

PANELS = (
    (("recall_at_200", "recall@200 of logged engagement"), ("ndcg_at_10", "NDCG@10 of the funnel")),
    (("pool", "pool size, 5th percentile"), ("coverage_at_10", "coverage@10")),
    (("skew", "share of profiles served with skewed features"), ("models_age_days", "age of the models, days")),
)
COLOURS = ("#3557d6", "#d08a2e", "#3f9b7a", "#7a7f8c")
STYLE = {"svg.hashsalt": "marquee", "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 9,
         "axes.spines.top": False, "axes.spines.right": False, "axes.titlesize": 10, "legend.frameon": False}


def write(settings: Settings, nights: Sequence[LiveQuality]) -> str | None:
    """The path of the SVG; the PNG lies beside it. None where no night was measured."""
    if not nights:
        return None
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib.figure import Figure

    folder = settings.home / "quality"
    folder.mkdir(parents=True, exist_ok=True)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(10, 7.5), layout="constrained")
        for row, axes in zip(PANELS, figure.subplots(len(PANELS), 2, sharex=True)):
            for (name, title), panel in zip(row, axes):
                _panel(panel, nights, name, title)
        figure.axes[0].legend(loc="best")
        figure.supxlabel("vertical lines: another release from here on; solid ones: with other models", fontsize=8)
        figure.autofmt_xdate()
        for suffix, metadata in (("svg", {"Date": None}), ("png", {})):
            aside = folder / f".live.{suffix}.{os.getpid()}"
            figure.savefig(aside, format=suffix, dpi=120, metadata=metadata)
            if suffix == "svg":
                aside.write_text(without_references(aside.read_text()))
            aside.replace(folder / f"live.{suffix}")
    return str(Path(folder / "live.svg"))


def without_references(svg: str) -> str:
    """Matplotlib's DOCTYPE and metadata name addresses."""
    return re.sub(r"<metadata>.*?</metadata>\s*", "", re.sub(r"<!DOCTYPE.*?>\s*", "", svg, flags=re.S), flags=re.S)


def value(night: LiveQuality, name: str) -> float:
    """NaN where the night has no such figure."""
    found = {"pool": night.figures["pool"]["p5"], "skew": night.figures["skew"].get("skewed_share")}.get(name, night.figures.get(name))
    return float("nan") if found is None else float(found)


def _panel(axes, nights: Sequence[LiveQuality], name: str, title: str) -> None:
    axes.set_title(title, loc="left")
    for colour, arm in zip(COLOURS * len(nights), sorted({night.arm for night in nights})):
        mine = [night for night in nights if night.arm == arm]
        days, values = [date.fromisoformat(night.ds) for night in mine], [value(night, name) for night in mine]
        axes.plot(days, values, color=colour, marker="o", markersize=3, label=f"arm {arm}")
        if bounds := [night.figures["bounds"][name] for night in mine if name in night.figures["bounds"]]:
            axes.fill_between(days, *zip(*bounds), color=colour, alpha=0.15, linewidth=0)
        for before, after in pairwise(mine):
            if before.release_id != after.release_id:
                models = before.figures["trained_by"] != after.figures["trained_by"]
                axes.axvline(date.fromisoformat(after.ds), color=colour, linewidth=0.8, linestyle="-" if models else ":")
    axes.set_ylim(0, 1.05 * max([v for night in nights if (v := value(night, name)) == v and v > 0], default=1.0))

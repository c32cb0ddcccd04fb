"""The HTML report: one self-contained page, plots inside, no external reference, no script."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from jobs.evaluation import plots
from jobs.evaluation.card import LABELS
from jobs.evaluation.evidence import Evidence
from jobs.evaluation.figures import CORRECTED

TEMPLATE = "report.html.j2"


def report(evidence: Evidence, milliseconds: Mapping[str, Sequence[float]]) -> str:
    """`milliseconds` are every answer's times by system, for the histogram."""
    environment = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined)
    environment.filters["figure"] = _figure
    drawn = [
        plots.quality(evidence.figures), plots.corrected(evidence.corrected), plots.differences(evidence.fair), plots.recall_by_slice(evidence.figures),
        plots.beyond_accuracy(evidence.figures), plots.latency(milliseconds),
        plots.ranker_choice(evidence.ranker), plots.attention(evidence.ranker.get("attention") or {}),
        plots.learning(evidence.curve),
    ]
    labels = {**LABELS, "genre_miscalibration_at_10": "genre miscalibration@10"}
    return environment.get_template(TEMPLATE).render(e=evidence, labels=labels, corrected_labels=CORRECTED.labels, plots=[plot for plot in drawn if plot])


def _figure(value: float | None, digits: int = 4) -> str:
    return "" if value is None else f"{value:.{digits}f}"

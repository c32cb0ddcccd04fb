"""The towers' learning curve, from MLflow where it kept one: shown in the report, nothing depends on it."""

import logging
import os
from contextlib import redirect_stdout
from pathlib import Path

from contracts.settings import Settings
from jobs.runtime import log

EXPERIMENT = "towers"


def learning_curve(settings: Settings, release_id: str) -> dict[str, list[float]]:
    """Metric -> values by epoch, of the release's newest towers run; empty where there is none."""
    address = settings.mlflow_address()
    if address.startswith("sqlite:///") and not Path(address.removeprefix("sqlite:///")).exists():
        return {}  # opening it would make it
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
    try:
        from mlflow import MlflowClient

        for name in ("mlflow", "alembic", "alembic.runtime.migration"):
            logging.getLogger(name).setLevel(logging.ERROR)
        with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
            return _curve(MlflowClient(address), release_id)
    except Exception as error:  # whatever a tracking server may answer, the judgement stands without the curve
        log.warning("no learning curve from MLflow: %s", error)
        return {}


def _curve(client, release_id: str) -> dict[str, list[float]]:
    experiment = client.get_experiment_by_name(EXPERIMENT)
    runs = client.search_runs([experiment.experiment_id], f"tags.release_id = '{release_id}'",
                              order_by=["attributes.start_time DESC"], max_results=1) if experiment else []
    if not runs:
        return {}
    points = {name: client.get_metric_history(runs[0].info.run_id, name) for name in sorted(runs[0].data.metrics)}
    return {name: [p.value for p in sorted(found, key=lambda p: p.step)] for name, found in points.items() if len(found) > 1}

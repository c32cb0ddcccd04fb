"""A run's record in MLflow: parameters, curve, where its data came from, its files. An annotation: no release file
depends on it, and a tracking server that is down does not stop a night.
"""

import logging
import os
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from pathlib import Path

from contracts.settings import Settings
from jobs.runtime import log

EXPERIMENT = "towers"


def record(
    settings: Settings, release_id: str, parameters: Mapping[str, object], tags: Mapping[str, str],
    curve: Sequence[Mapping[str, float | None]], figures: Mapping[str, float | None], files: Sequence[Path],
) -> str | None:
    """The MLflow run id, or None where tracking failed (logged as a warning)."""
    os.environ.setdefault("MLFLOW_ENABLE_ASYNC_LOGGING", "false")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
    quiet = [logging.getLogger(name) for name in ("mlflow", "alembic", "alembic.runtime.migration")]
    try:
        # importing takes seconds, and a home's first run migrates a database: not before there is something to record
        from mlflow import MlflowClient
        for logger in quiet:
            logger.setLevel(logging.ERROR)
        with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
            return _record(MlflowClient(settings.mlflow_address()), settings, release_id, parameters, tags, curve, figures, files)
    except Exception as error:  # whatever a tracking server may answer, the towers are trained
        log.warning("MLflow at %s did not record the run: %s", settings.mlflow_address().split("@")[-1], error)
        return None


def _record(client, settings, release_id, parameters, tags, curve, figures, files) -> str:
    from mlflow.entities import Metric, Param, RunTag

    experiment = client.get_experiment_by_name(EXPERIMENT)
    if experiment is None:
        place = None if settings.mlflow_uri.startswith("http") else (settings.home / "mlflow-artifacts").as_uri()
        experiment_id = client.create_experiment(EXPERIMENT, artifact_location=place)
    else:
        experiment_id = experiment.experiment_id
    run = client.create_run(experiment_id, run_name=release_id)
    moment = run.info.start_time
    metrics = [Metric(name, value, moment, step) for step, point in enumerate(curve, 1)
               for name, value in point.items() if value is not None]
    metrics += [Metric(name, value, moment, 0) for name, value in figures.items() if value is not None]
    client.log_batch(run.info.run_id, metrics, [Param(k, str(v)) for k, v in parameters.items()],
                     [RunTag(k, v) for k, v in {"release_id": release_id, **tags}.items()])
    for path in files:
        client.log_artifact(run.info.run_id, str(path))
    client.set_terminated(run.info.run_id)
    return run.info.run_id

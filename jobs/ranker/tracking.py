"""A run's record in MLflow: parameters, validation figures, the lake tag, the files. An annotation: no release file
depends on it, and a tracking server that is down does not stop a night.
"""

import logging
import os
from contextlib import redirect_stdout
from dataclasses import asdict
from pathlib import Path
from typing import Any

from contracts import release as names
from contracts.marts import tag_name
from contracts.release import Provenance
from contracts.settings import Settings
from jobs.ranker.config import RankerConfig
from jobs.runtime import log

EXPERIMENT = "ranker"


def record(settings: Settings, provenance: Provenance, config: RankerConfig, result: dict[str, Any], folder: Path) -> str | None:
    """The MLflow run id, or None where tracking failed (logged as a warning). A rerun replaces the release's run."""
    os.environ.setdefault("MLFLOW_ENABLE_ASYNC_LOGGING", "false")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
    try:
        from mlflow import MlflowClient

        for name in ("mlflow", "alembic", "alembic.runtime.migration"):
            logging.getLogger(name).setLevel(logging.ERROR)
        with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
            return _record(MlflowClient(settings.mlflow_address()), settings, provenance, config, result, folder)
    except Exception as error:  # whatever a tracking server may answer, the ranker is trained
        log.warning("MLflow at %s did not record the run: %s", settings.mlflow_address().split("@")[-1], error)
        return None


def _record(client, settings: Settings, provenance: Provenance, config: RankerConfig, result: dict[str, Any], folder: Path) -> str:
    from mlflow.entities import Metric, Param, RunTag

    experiment_id = _experiment(client, settings)
    for old in client.search_runs([experiment_id], f"tags.release_id = '{provenance.release_id}'"):
        client.delete_run(old.info.run_id)
    run = client.create_run(experiment_id, run_name=provenance.release_id)
    figures = {f"ndcg_at_10.{name.replace(' ', '.')}": value for name, value in result["ndcg_at_10"].items()}
    figures |= {name: result[name] for name in ("requests", "training_requests", "validation_requests")}
    tags = {"release_id": provenance.release_id, "lake_tag": tag_name(provenance.day), "kind": result["kind"],
            "reason": result["reason"]}
    client.log_batch(
        run.info.run_id, [Metric(name, value, run.info.start_time, 0) for name, value in figures.items()],
        [Param(name, str(value)) for name, value in asdict(config).items()], [RunTag(k, v) for k, v in tags.items()],
    )
    for name in (names.SPEC, names.RANKER):
        if (folder / name).exists():
            client.log_artifact(run.info.run_id, str(folder / name))
    client.set_terminated(run.info.run_id)
    return run.info.run_id


def _experiment(client, settings: Settings) -> str:
    found = client.get_experiment_by_name(EXPERIMENT)
    if found is not None:
        return found.experiment_id
    place = None if settings.mlflow_uri.startswith("http") else (settings.home / "mlflow-artifacts").as_uri()
    return client.create_experiment(EXPERIMENT, artifact_location=place)

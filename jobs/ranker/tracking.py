"""What MLflow keeps of a ranker: parameters, validation figures, the lake tag and the files."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from contracts import release as names
from contracts.marts import tag_name
from contracts.release import Provenance
from contracts.settings import Settings
from jobs.ranker.config import RankerConfig

EXPERIMENT = "ranker"


def record(settings: Settings, provenance: Provenance, config: RankerConfig, result: dict[str, Any], folder: Path) -> None:
    """One run a release: a rerun replaces it."""
    import mlflow

    mlflow.set_tracking_uri(settings.mlflow_address())
    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name(EXPERIMENT)
    experiment_id = experiment.experiment_id if experiment else client.create_experiment(
        EXPERIMENT, artifact_location=(settings.home / "mlflow" / EXPERIMENT).as_uri())
    for old in client.search_runs([experiment_id], f"tags.release_id = '{provenance.release_id}'"):
        client.delete_run(old.info.run_id)
    tags = {"release_id": provenance.release_id, "lake_tag": tag_name(provenance.day), "kind": result["kind"],
            "reason": result["reason"][:500]}
    with mlflow.start_run(experiment_id=experiment_id, run_name=provenance.release_id, tags=tags):
        mlflow.log_params(asdict(config))
        mlflow.log_metrics({f"ndcg_at_10.{name.replace(' ', '.')}": value for name, value in result["ndcg_at_10"].items()})
        mlflow.log_metrics({name: result[name] for name in ("requests", "training_requests", "validation_requests")})
        for name in (names.SPEC, names.RANKER):
            if (folder / name).exists():
                mlflow.log_artifact(str(folder / name))

"""Airflow's SDK in the test process needs a home of its own; the DAGs are parsed in a process of their own."""

import json
import os
import subprocess
import sys
import tempfile

import pytest

from contracts.settings import REPOSITORY

os.environ["AIRFLOW_HOME"] = tempfile.mkdtemp(prefix="marquee-airflow-")

DESCRIBE = """
import json, sys
from airflow.dag_processing.dagbag import DagBag
from airflow.serialization.serialized_objects import DagSerialization

bag = DagBag("dags")
def describe(dag):
    DagSerialization.to_dict(dag)
    return {
        "doc": dag.doc_md, "tags": sorted(dag.tags), "schedule": type(dag.timetable).__name__, "catchup": dag.catchup,
        "max_active_runs": dag.max_active_runs, "end_date": str(dag.end_date or ""),
        "tasks": {t.task_id: {"doc": t.doc_md, "pool": t.pool, "retries": t.retries, "downstream": sorted(t.downstream_task_ids),
                              "rule": str(t.trigger_rule.value), "operator": type(t).__name__,
                              "arguments": getattr(t, "arguments", None),
                              "assigned": [u["id"] for u in getattr(t, "assigned_users", None) or []]} for t in dag.tasks}}
print(json.dumps({
    "errors": bag.import_errors,
    "dags": {dag_id: describe(dag) for dag_id, dag in bag.dags.items()},
    "modules": sorted({name.split(".")[0] for name in sys.modules}),
}))
"""


def parse(home, **variables: str) -> dict:
    """What Airflow finds in dags/: errors, DAGs, and every top-level module that parsing imported."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("AIRFLOW", "MARQUEE"))}
    environment |= {"AIRFLOW_HOME": str(home / "airflow"), "MARQUEE_HOME": str(home), "PYTHONPATH": str(REPOSITORY),
                    "AIRFLOW__CORE__LOAD_EXAMPLES": "False", "AIRFLOW__LOGGING__LOGGING_LEVEL": "ERROR"} | variables
    done = subprocess.run([sys.executable, "-c", DESCRIBE], cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.strip().splitlines()[-1])


@pytest.fixture(scope="session")
def parse_dags():
    return parse


@pytest.fixture(scope="session")
def parsed(tmp_path_factory) -> dict:
    return parse(tmp_path_factory.mktemp("dags"))

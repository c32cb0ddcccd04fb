"""The DAGs as Airflow sees them: they parse, without work at parse time, with a page for 3 a.m., in the agreed shape."""

from itertools import pairwise

import pytest

DAGS = {"nightly", "promote", "launches", "roll_back", "housekeeping"}
HEADINGS = ("### Why it exists", "### What breaks", "### How to rerun")


def test_every_dag_parses(parsed):
    assert parsed["errors"] == {}
    assert set(parsed["dags"]) == DAGS


def test_parsing_imports_no_worker(parsed):
    assert {"airflow", "dags", "contracts"} <= set(parsed["modules"]), "looked at the wrong modules"
    assert not {"jobs", "serving", "ledger", "feature_repo", "local", "torch", "pyspark", "feast", "mlflow"} & set(parsed["modules"])


@pytest.mark.parametrize("dag_id", sorted(DAGS))
def test_every_dag_has_a_page_for_three_in_the_morning(parsed, dag_id):
    found = parsed["dags"][dag_id]
    assert [h for h in HEADINGS if h not in found["doc"]] == []
    assert {"marquee", dag_id} <= set(found["tags"])
    assert not found["catchup"]


def test_every_task_says_what_it_is(parsed):
    tasks = {f"{dag_id}.{task_id}": task for dag_id, dag in parsed["dags"].items() for task_id, task in dag["tasks"].items()}
    assert len(tasks) > 20
    assert [name for name, task in tasks.items() if not task["doc"]] == []


def test_the_night_in_order(parsed):
    tasks = parsed["dags"]["nightly"]["tasks"]
    order = ["land.check", "land.launches", "ingest", "warehouse", "features.examples", "features.tonight", "features.materialise",
             "train.begin", "train.towers", "train.index", "train.ranker", "train.seal", "judge.judge", "judge.offer"]
    assert set(order) == set(tasks)
    for before, after in pairwise(order):
        assert after in tasks[before]["downstream"], f"{before} >> {after}"
    assert parsed["dags"]["nightly"]["max_active_runs"] == 1


def test_writers_of_the_lake_share_one_slot(parsed):
    tasks = parsed["dags"]["nightly"]["tasks"]
    assert {name for name, task in tasks.items() if task["pool"] == "spark"} == {
        "ingest", "warehouse", "features.examples", "features.materialise"}
    assert parsed["dags"]["launches"]["tasks"]["launches"]["pool"] == "launches"


def test_a_question_is_answered_by_named_approvers_and_always_recorded(parsed):
    tasks = parsed["dags"]["promote"]["tasks"]
    assert tasks["approve"]["assigned"] == ["approver1", "approver2"]
    assert tasks["approve"]["retries"] == 0, "a retry would ask again"
    assert tasks["record"]["rule"] == "all_done"
    assert tasks["record"]["downstream"] == [], "the record decides the run's colour, so it is the only leaf"
    assert "record" not in tasks["approve"]["downstream"], "a rejection skips what comes directly after it"
    assert tasks["swap"]["arguments"][-6:] == ["--dag-id", "promote", "--run-id", "{{ run_id }}", "--task-id", "approve"]


def test_settings_reach_the_dags(parse_dags, tmp_path):
    dags = parse_dags(tmp_path, MARQUEE_NIGHTLY_UNTIL="2026-04-30", MARQUEE_APPROVERS="ada, grace")["dags"]
    assert dags["nightly"]["end_date"].startswith("2026-04-30")
    assert dags["promote"]["tasks"]["approve"]["assigned"] == ["ada", "grace"]

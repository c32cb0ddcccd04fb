"""The DAGs as Airflow sees them: they parse, without work at parse time, with a page for 3 a.m., in the agreed shape."""

from itertools import pairwise

import pytest

from contracts.settings import REPOSITORY

DAGS = {"nightly", "promote", "launches", "roll_back", "watch", "housekeeping"}
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
    order = ["land.check", "land.launches", "ingest", "warehouse", "features.examples", "features.tonight",
             "features.live_quality", "features.materialise", "train.decide", "train.begin", "train.towers", "train.index", "train.ranker", "train.seal", "judge.judge", "judge.offer"]
    assert set(order) == set(tasks)
    for before, after in pairwise(order):
        assert after in tasks[before]["downstream"], f"{before} >> {after}"
    assert parsed["dags"]["nightly"]["max_active_runs"] == 1


def test_the_lake_is_tidied_of_what_was_collected_and_never_beside_a_nights_spark(parsed):
    tasks = parsed["dags"]["housekeeping"]["tasks"]
    assert tasks["collect"]["downstream"] == ["doctor", "tidy"]
    assert tasks["tidy"]["arguments"] == ["lake", "tidy"]
    assert tasks["tidy"]["pool"] == parsed["dags"]["nightly"]["tasks"]["warehouse"]["pool"] == "spark"


def test_live_is_looked_at_before_anything_learns_from_the_day(parsed):
    """Tonight's online rows have seen the day too."""
    tasks = parsed["dags"]["nightly"]["tasks"]
    assert tasks["features.live_quality"]["arguments"] == ["live-quality", "--ds", "{{ ds }}", "--json"]
    assert tasks["features.live_quality"]["downstream"] == ["features.materialise"]
    assert tasks["train.decide"]["downstream"] == ["train.begin"]


def test_a_refresh_goes_live_without_a_person_only_where_the_settings_say_so(parsed, parse_dags, tmp_path):
    assert "judge.refresh" not in parsed["dags"]["nightly"]["tasks"]
    tasks = parse_dags(tmp_path, MARQUEE_UNATTENDED_REFRESH="true")["dags"]["nightly"]["tasks"]
    assert tasks["judge.judge"]["downstream"] == ["judge.offer", "judge.refresh"]
    assert tasks["judge.refresh"]["downstream"] == ["judge.undecided"]
    assert tasks["judge.undecided"]["downstream"] == ["judge.offer"], "where nobody is asked, no question is opened"


def test_a_blocked_night_is_red_with_the_reason_and_both_ways_on_last():
    from airflow.sdk.exceptions import AirflowFailException

    from dags.nightly import passed

    result = {"verdict": "passed", "release_id": "r", "evaluation": "e", "failed_gates": [], "never_overridden": ["ineligible"]}
    assert passed(result) == "r.e"
    with pytest.raises(AirflowFailException) as red:
        passed(result | {"verdict": "blocked", "failed_gates": ["not_worse_than_live", "answered"]})
    last = str(red.value).splitlines()[-1]
    assert last.startswith("r is blocked, no question is opened; failed: not_worse_than_live, answered.")
    assert "docs/runbooks/red-night.md" in last
    assert "`marquee release request-override r --gate not_worse_than_live --gate answered --reason" in last


def test_no_override_is_offered_of_a_safety_gate():
    from contracts.blocked import RUNBOOK, said

    text = said("r", ["ineligible", "answered"], ["ineligible", "maturity"])
    assert "request-override" not in text
    assert "nobody can let ineligible pass" in text
    assert (REPOSITORY / RUNBOOK).is_file()


def test_launches_wait_for_nothing_of_the_night(parsed):
    assert parsed["dags"]["launches"]["schedule"] != "NullTimetable", "launches do not wait for the night"
    assert parsed["dags"]["launches"]["tasks"]["launches"]["pool"] == "launches", "and not for its pools"


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


def test_two_people_are_asked_one_after_the_other(parse_dags, tmp_path):
    tasks = parse_dags(tmp_path, MARQUEE_APPROVALS_NEEDED="2")["dags"]["promote"]["tasks"]
    assert tasks["approve"]["downstream"] == ["approve_second"]
    assert tasks["approve_second"]["downstream"] == ["swap"]
    assert tasks["approve_second"]["assigned"] == ["approver1", "approver2"]
    assert "record" not in tasks["approve_second"]["downstream"]


def test_a_roll_back_waits_for_no_figure(parsed):
    tasks = parsed["dags"]["roll_back"]["tasks"]
    assert tasks["figures"]["downstream"] == []
    assert tasks["roll_back"]["rule"] == "all_success", "and nothing comes before it"


def test_a_cleared_roll_back_is_known_by_its_run(parsed):
    arguments = parsed["dags"]["roll_back"]["tasks"]["roll_back"]["arguments"]
    assert arguments[arguments.index("--run-id") + 1] == "{{ run_id }}"


def test_settings_reach_the_dags(parse_dags, tmp_path):
    dags = parse_dags(tmp_path, MARQUEE_NIGHTLY_UNTIL="2026-04-30", MARQUEE_APPROVERS="ada, grace")["dags"]
    assert dags["nightly"]["end_date"].startswith("2026-04-30")
    assert dags["promote"]["tasks"]["approve"]["assigned"] == ["ada", "grace"]

"""A nano world through the real scheduler, Milvus Lite and API, in the order of these tests: a question forced and refused,
asked again and rejected, a second night approved and served, past days backfilled without a question.
"""

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from contracts.release import State
from contracts.settings import REPOSITORY, Settings
from ledger import open_ledger
from local import home, processes, summary, tokens
from local.airflow_api import Airflow
from local.demo import ANSWER_AFTER_SECONDS
from local.night import Follower, RedRun
from local.status import service_user

pytestmark = pytest.mark.timeout(1500)

WAIT_SECONDS = 240


@dataclass
class Town:
    """A home of its own with everything running in it."""

    folder: Path
    environment: dict[str, str]

    @property
    def settings(self) -> Settings:
        return Settings(_env_file=self.folder / home.SETTINGS_FILE, home=self.folder)

    def marquee(self, *arguments: str, expect: int = 0) -> str:
        done = subprocess.run([sys.executable, "-m", "jobs.cli", *arguments], cwd=REPOSITORY, env=self.environment, text=True,
                              capture_output=True, timeout=1400)
        assert done.returncode == expect, f"{arguments}\n{done.stdout[-3000:]}\n{done.stderr[-6000:]}"
        return done.stdout

    def airflow(self, user: str) -> Airflow:
        return Airflow(self.settings.airflow_address(), user, home.airflow_secrets(self.settings)["passwords"][user])

    def night(self) -> tuple[str, str]:
        """(run id, candidate's partition key) of the newest night."""
        with service_user(self.settings) as airflow:
            run_id = airflow.runs("nightly", run_type="manual")[0]["dag_run_id"]
            return run_id, airflow.xcom("nightly", run_id, "judge.judge")

    def promotions(self) -> list[dict]:
        with service_user(self.settings) as airflow:
            return airflow.runs("promote")

    def state(self, release: str) -> State:
        return open_ledger(self.settings).get(release).state

    def live(self) -> dict | None:
        return json.loads(self.marquee("status", "--json").strip().splitlines()[-1])["live"]


@pytest.fixture(scope="module")
def town(tmp_path_factory) -> Town:
    folder = tmp_path_factory.mktemp("town")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("MARQUEE_", "AIRFLOW"))} | {"MARQUEE_HOME": str(folder)}
    town = Town(folder, environment)
    try:
        yield town
    finally:
        town.marquee("down")
        assert processes.supervisor_pid(folder) is None


def test_the_first_night_stops_at_a_question_for_a_person(town):
    told = town.marquee("demo", "--recipe", "nano", "--approve", "ask")
    said = json.loads(town.marquee("status", "--json").strip().splitlines()[-1])
    assert {"airflow", "api", "milvus", "live", "pending", "logs", "home"} <= set(said)
    assert all(said[part]["answers"] for part in ("airflow", "api", "milvus"))
    assert said["live"] is None
    (question,) = said["pending"]
    _, partition = town.night()
    assert partition.rpartition(".")[0] in question["subject"]
    assert httpx.get(question["link"]).status_code == 200
    assert home.airflow_secrets(town.settings)["passwords"]["approver1"] in told


def test_the_question_has_the_card_and_both_digests_and_names_the_approvers(town):
    _, partition = town.night()
    release = partition.rpartition(".")[0]
    row = open_ledger(town.settings).get(release)
    with service_user(town.settings) as airflow:
        (question,) = airflow.questions("promote")
    assert row.payload_digest in question["body"]
    assert row.evidence_digest in question["body"]
    assert [user["id"] for user in question["assigned_users"]] == town.settings.approver_names()


def test_whoever_is_not_named_may_not_answer(town):
    run = town.promotions()[0]["dag_run_id"]
    with town.airflow("admin") as admin:
        path = f"/dags/promote/dagRuns/{run}/taskInstances/approve/-1/hitlDetails"
        admin.request("PATCH", path, expect=(403,), json={"chosen_options": ["Approve"], "params_input": {"reason": "I am admin"}})


def test_a_question_that_is_forced_to_success_is_refused_by_the_swap(town):
    run = town.promotions()[0]["dag_run_id"]
    release = town.night()[1].rpartition(".")[0]
    with town.airflow("approver1") as person:
        person.request("PATCH", f"/dags/promote/dagRuns/{run}/taskInstances/approve", json={"new_state": "success"})
        with pytest.raises(RedRun):
            Follower(town.settings, person, "promote", run).wait()
        states = {task["task_id"]: task["state"] for task in person.tasks("promote", run)}
    assert (states["swap"], states["record"]) == ("failed", "failed"), "no red night looks green"
    assert town.live() is None
    refused = [t for t in open_ledger(town.settings).transitions(release) if t.reason.startswith("refused:")]
    assert "nobody answered" in refused[0].reason


def test_it_is_judged_and_asked_anew_and_a_rejection_is_kept(town):
    night, partition = town.night()
    release = partition.rpartition(".")[0]
    before = {run["dag_run_id"] for run in town.promotions()}
    with town.airflow("approver1") as person:
        person.clear_tasks("nightly", night, ["judge.judge"])
        Follower(town.settings, person, "nightly", night).wait()
    run = _until(lambda: next((r["dag_run_id"] for r in town.promotions() if r["dag_run_id"] not in before), None))
    with town.airflow("approver2") as person:
        follower = Follower(town.settings, person, "promote", run)
        assert follower.wait(lambda tasks: any(t["state"] == "awaiting_input" for t in tasks)) == "running"
        time.sleep(ANSWER_AFTER_SECONDS)
        person.answer("promote", run, "approve", "Reject", {"reason": "the kids shelf looks wrong"})
        assert follower.wait() == "success", "a rejection is an answer, not a failure"
    rejected = next(t for t in open_ledger(town.settings).transitions(release) if t.to_state == State.REJECTED)
    assert (rejected.actor, rejected.reason) == ("approver2", "the kids shelf looks wrong")
    assert rejected.at is not None
    assert town.live() is None


def test_the_next_night_is_approved_and_serves(town):
    told = town.marquee("demo", "--recipe", "nano")
    release = town.night()[1].rpartition(".")[0]
    live = town.live()
    assert (live["release_id"], live["approver"]) == (release, "approver1")
    assert "curl -s -H 'Authorization: Bearer " in told
    member, kid = tokens.typical_members(town.settings)
    assert kid.is_kids
    for who in (member, kid):
        shelf = summary.fetch_shelf(town.settings, who)
        assert shelf["release_id"] == release
        assert len(shelf["titles"]) > 0
        assert all(title["name"] for title in shelf["titles"])
        assert shelf["titles"][0]["name"] in told


def test_a_backfill_of_past_days_opens_no_question(town):
    live, promotions, releases = town.live(), len(town.promotions()), len(open_ledger(town.settings).releases())
    landed = json.loads(town.marquee("land", "world", "--recipe", "nano", "--next").strip().splitlines()[-1])
    with service_user(town.settings) as airflow:
        nights = sorted(run["logical_date"][:10] for run in airflow.runs("nightly"))
    assert landed["ds"] > nights[-1], "two nights that ran, and a day that did not"
    body = {"dag_id": "nightly", "from_date": f"{nights[0]}T00:00:00Z", "to_date": f"{landed['ds']}T23:59:00Z", "run_on_latest_version": True,
            "max_active_runs": 1, "reprocess_behavior": "completed", "run_backwards": False, "dag_run_conf": {}}
    with town.airflow("approver1") as person:
        # 503: SQLite was locked; 409: Airflow could not take back what it had begun, and its scheduler does after two minutes
        asked = _until(lambda: (answer := person.request("POST", "/backfills", (200, 409, 503), json=body)).is_success and answer, 400)
        backfill = asked.json()["id"]
        done = _until(lambda: person.request("GET", f"/backfills/{backfill}").json()["completed_at"], 1400)
        runs = person.runs("nightly", run_type="backfill")
        assert done
        assert len(runs) == 3
        assert {run["state"] for run in runs} == {"success"}
        for run in runs:
            states = {task["task_id"]: task["state"] for task in person.tasks("nightly", run["dag_run_id"])}
            assert states["features.examples"] == "success"
            assert {states[name] for name in ("features.materialise", "train.begin", "judge.offer")} == {"skipped"}
    assert (town.live(), len(town.promotions()), len(open_ledger(town.settings).releases())) == (live, promotions, releases)


def test_up_is_harmless_when_up_and_down_when_down(town):
    before = processes.supervisor_pid(town.folder)
    town.marquee("up")
    assert processes.supervisor_pid(town.folder) == before
    assert "serving" in town.marquee("down")
    assert "Nothing was running" in town.marquee("down")


def _until(look, seconds: float = WAIT_SECONDS):
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(1)
    return found

"""What `marquee status` says of the live release."""

from datetime import UTC, datetime, timedelta

import httpx

from contracts.release import State
from contracts.settings import Settings
from ledger import open_ledger
from local import status


def test_the_newest_night_stands_beside_the_live_release(tmp_path):
    settings = Settings(_env_file=None, home=tmp_path)
    ledger = open_ledger(settings)
    ledger.begin("r1", "2026-03-30", "begin")
    for state in (State.BUILT, State.JUDGED, State.AWAITING_APPROVAL):
        ledger.move("r1", state, "test")
    ledger.confirm(ledger.switch(ledger.propose("r1", 0).version, datetime.now(UTC) + timedelta(minutes=5)).version)
    assert status.live(settings)["quality"] is None
    for ds, recall in (("2026-03-31", 0.5), ("2026-04-01", 0.4)):
        ledger.keep_live_quality("r1", ds, "control", {"requests": 9, "recall_at_200": recall, "ndcg_at_10": 0.1, "models_age_days": 2})
    assert status.live(settings)["quality"] == {"ds": "2026-04-01", "requests": 9, "recall_at_200": 0.4, "ndcg_at_10": 0.1, "models_age_days": 2}


def test_the_newest_night_and_where_it_stands(monkeypatch, tmp_path):
    tasks = [{"task_id": "ingest", "state": "success"}, {"task_id": "train", "state": "failed"}, {"task_id": "seal", "state": "upstream_failed"}]
    runs = [{"dag_run_id": "demo__2026-03-31", "logical_date": "2026-03-31T03:00:00Z", "state": "failed"}]

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/auth/token":
            return httpx.Response(201, json={"access_token": "t"})
        return httpx.Response(200, json={"task_instances": tasks} if "taskInstances" in request.url.path else {"dag_runs": runs})

    def service_user(_: Settings) -> status.Airflow:
        made = status.Airflow("http://airflow", "marquee", "p")
        made._http = httpx.Client(base_url=made.address, transport=httpx.MockTransport(answer))
        return made

    monkeypatch.setattr(status, "service_user", service_user)
    found = status.night(Settings(_env_file=None, home=tmp_path))
    assert found == {"ds": "2026-03-31", "state": "failed", "tasks": ["train"], "link": "http://airflow/dags/nightly/runs/demo__2026-03-31"}
    runs.clear()
    assert status.night(Settings(_env_file=None, home=tmp_path)) is None

"""What somebody should be told of, each under a key that stays the same; and the first hour's figures."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from contracts import clock
from contracts.errors import MarqueeError, UsageError
from contracts.release import State
from jobs.release import ask, figures, promote, record, watch
from ledger import Ledger
from tests.jobs.release.conftest import RUN


def ago(**more) -> str:
    return (datetime.now(UTC) - timedelta(**more)).isoformat()


def run(dag: str, run_id: str, state: str, began: str) -> dict:
    return {"dag_id": dag, "dag_run_id": run_id, "state": state, "queued_at": began, "start_date": began, "run_after": began}


@pytest.fixture
def nights(airflow) -> dict[str, list[dict]]:
    """Runs of `nightly` and `launches`, newest first, as Airflow lists them."""
    runs: dict[str, list[dict]] = {"nightly": [], "launches": []}
    find = airflow._find
    airflow._find = lambda path: next(({"dag_runs": found} for dag, found in runs.items() if path == f"/api/v2/dags/{dag}/dagRuns"),
                                      None) or find(path)
    return runs


def kinds(settings) -> list[str]:
    return sorted(finding["kind"] for finding in watch.run(settings)["findings"])


def test_half_of_the_time_is_gone_and_then_all_of_it(settings, ledger, airflow, make, nights, monkeypatch):
    manifest = make("r1")
    promote.ask(settings, "r1")
    airflow.ask(manifest)
    assert kinds(settings) == []
    at_half = datetime.now(UTC) + timedelta(hours=13)
    with monkeypatch.context() as patch:
        patch.setattr(watch, "datetime", Later(at_half))
        (finding,) = watch.run(settings)["findings"]
        assert (finding["kind"], finding["link"].rpartition("/")[2]) == ("half_time", "required_actions")
        assert watch.run(settings)["findings"][0]["key"] == finding["key"], "told once"
        airflow.answer()
        assert kinds(settings) == [], "somebody answered"


class Later:
    """datetime, at another present."""

    def __init__(self, now: datetime):
        self._now = now

    def now(self, zone) -> datetime:
        return self._now

    def __getattr__(self, name):
        return getattr(datetime, name)


def test_an_approval_that_no_swap_followed_is_told(settings, ledger, airflow, make, nights, monkeypatch):
    manifest = make("r1")
    promote.ask(settings, "r1")
    airflow.ask(manifest)
    airflow.answer(reason="")
    with pytest.raises(MarqueeError, match="no reason"):
        promote.swap(settings, "r1", promote.QuestionAddress("promote", RUN, "approve"))
    due = ask.asked(ledger, "r1").due
    monkeypatch.setattr(record, "datetime", Later(due + timedelta(minutes=30)))
    assert watch.run(settings)["closed"] == [], "its swap may still run"
    monkeypatch.setattr(record, "datetime", Later(due + timedelta(minutes=90)))
    assert watch.run(settings)["closed"] == [], "it was tried just now"
    clock.set_now(settings.home, datetime.now(UTC) + timedelta(minutes=61))
    found = watch.run(settings)
    assert (found["closed"], ledger.get("r1").state) == (["r1"], State.EXPIRED)
    (finding,) = found["findings"]
    assert finding["kind"] == "expired"
    assert "no swap followed the answer: refused" in finding["text"]
    assert "no reason" in finding["text"]
    assert kinds(settings) == []


def test_a_night_that_is_not_done_in_time(settings, ledger, airflow, nights):
    nights["nightly"] = [run("nightly", "n1", "running", ago(days=1, hours=1))]
    (finding,) = watch.run(settings)["findings"]
    assert (finding["kind"], "n1" in finding["text"]) == ("night_late", True)
    nights["nightly"] = [run("nightly", "n2", "running", ago(seconds=1))]
    assert kinds(settings) == []
    settings.night_due = "late"
    with pytest.raises(UsageError, match="MARQUEE_NIGHT_DUE"):
        watch.run(settings)


def test_launches_that_are_behind(settings, ledger, airflow, nights):
    nights["launches"] = [run("launches", "l3", "running", ago(minutes=1)), run("launches", "l2", "failed", ago(minutes=20)),
                          run("launches", "l1", "success", ago(minutes=21))]
    (finding,) = watch.run(settings)["findings"]
    assert (finding["kind"], finding["key"]) == ("launches_behind", "launches_behind/l2")
    nights["launches"].insert(0, run("launches", "l4", "success", ago(seconds=2)))
    assert kinds(settings) == []
    nights["launches"] = [run("launches", "l9", "running", ago(minutes=1)), run("launches", "l1", "success", ago(days=3))]
    assert kinds(settings) == [], "a machine that was off is not behind yet"
    nights["launches"] = [run("launches", "l1", "success", ago(minutes=20)), run("launches", "l0", "failed", ago(days=3))]
    (finding,) = watch.run(settings)["findings"]
    assert finding["key"] == "launches_behind/l1", "the DAG is paused"


def test_a_rollback_names_who_and_why(settings, ledger: Ledger, nights, make):
    for release, version, live in (("r1", 0, None), ("r2", 3, "r1")):
        make(release, compared_with=live)
        ledger.move(release, State.AWAITING_APPROVAL, "test")
        switched = ledger.switch(ledger.propose(release, version).version, datetime.now(UTC) + timedelta(minutes=1))
        ledger.confirm(switched.version)
    back = ledger.switch(ledger.propose("r1", 6).version, datetime.now(UTC) + timedelta(minutes=1), actor="ann", reason="kids saw horror",
                         details={"rollback": True, "from": "r2"})
    live = ledger.confirm(back.version)
    (finding,) = watch.run(settings)["findings"]
    assert finding["text"] == "r2 was rolled back to r1 by ann: kids saw horror"
    make("r3", compared_with="r1")
    ledger.move("r3", State.AWAITING_APPROVAL, "test")
    tried = ledger.switch(ledger.propose("r3", live.version).version, datetime.now(UTC) + timedelta(minutes=1), actor="approver1", reason="yes")
    ledger.revert(tried.version, actor="probe", reason="an empty shelf")
    assert [f["text"] for f in watch.run(settings)["findings"]] == [
        "r2 was rolled back to r1 by ann: kids saw horror", "r3 was rolled back by probe: an empty shelf"]


def test_a_replica_that_missed_the_swap(settings, ledger: Ledger, airflow, nights, make, monkeypatch):
    make("r1")
    ledger.move("r1", State.AWAITING_APPROVAL, "test")
    ledger.confirm(ledger.switch(ledger.propose("r1", 0).version, datetime.now(UTC) + timedelta(minutes=1)).version)
    for name, serving in (("good", "r1"), ("fresh", None), ("old", "r0")):
        ledger.heartbeat(name, "http://there", [], serving)
    assert kinds(settings) == [], "the moment of the swap"
    monkeypatch.setattr(watch, "SWAPPED", timedelta(0))
    (finding,) = watch.run(settings)["findings"]
    assert (finding["kind"], finding["key"]) == ("replica_behind", "replica_behind/old/r1")
    assert "serves r0, and r1 is live" in finding["text"]


def text(requests: int, errors: int, slow: int) -> str:
    return (f'marquee_requests_total{{route="/v1/shelf",status="200"}} {requests}\nmarquee_requests_total{{route="/v1/shelf",status="503"}} {errors}\n'
            f'marquee_request_seconds_bucket{{route="/v1/shelf",le="0.02"}} {requests - slow}\n'
            f'marquee_request_seconds_bucket{{route="/v1/shelf",le="+Inf"}} {requests}\nmarquee_degraded_total{{stage="rank"}} {slow}\n')


def test_figures_of_the_first_hour_are_differences_and_survive_a_restart(settings, ledger, make):
    make("r1")
    ledger.move("r1", State.AWAITING_APPROVAL, "test")
    ledger.confirm(ledger.switch(ledger.propose("r1", 0).version, datetime.now(UTC) + timedelta(minutes=1)).version)
    began = datetime.now(UTC)
    taken = [(1, text(1000, 10, 0)), (3, text(1100, 11, 1)), (5, text(20, 0, 0)), (14, text(50, 5, 10))]  # it died between 3 and 5
    path = settings.home / "run" / "figures.jsonl"
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps({"at": (began + timedelta(minutes=m)).isoformat(), "replica": "one", "release": "r1",
                                        **figures.counters(found)}) + "\n" for m, found in taken))
    rows = figures.show(settings)["rows"]
    assert [(row["minutes"], row["requests"], row["errors"], row["degraded"]) for row in rows] == [("0-10", 121, 1, 1), ("10-20", 35, 5, 10)]
    assert (rows[0]["p50_ms"], rows[1]["p99_ms"]) == ("≤ 20", "over 3000")
    assert "r1 is live" in figures.table(figures.show(settings))


def test_no_figures_without_a_live_release(settings, ledger):
    with pytest.raises(UsageError, match="no release is live"):
        figures.show(settings)

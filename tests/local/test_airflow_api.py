"""Airflow on SQLite says now and then that its database is locked: the same request is made again."""

import httpx
import pytest

from contracts.errors import MarqueeError
from local import airflow_api
from local.airflow_api import Airflow

LOCKED = httpx.Response(500, json={"detail": {"reason": "Database error", "statement": "hidden"}})


def airflow(monkeypatch, answers: list[httpx.Response]) -> Airflow:
    """One that gives these answers in turn, after the sign-in."""
    monkeypatch.setattr(airflow_api, "BUSY_SECONDS", 0)
    said = iter([httpx.Response(201, json={"access_token": "t"}), *answers])
    made = Airflow("http://127.0.0.1:1", "admin", "p")
    made._http = httpx.Client(base_url=made.address, transport=httpx.MockTransport(lambda request: next(said)))
    return made


def test_a_locked_database_is_asked_again(monkeypatch):
    made = airflow(monkeypatch, [LOCKED, httpx.Response(503), httpx.Response(200, json={"dag_run_id": "r"})])
    assert made.trigger("nightly", {"dag_run_id": "r"}) == {"dag_run_id": "r"}


def test_it_is_not_asked_for_ever(monkeypatch):
    with pytest.raises(MarqueeError, match=r"Airflow answered 500 to POST /dags/nightly/dagRuns: .*Database error"):
        airflow(monkeypatch, [LOCKED] * (airflow_api.BUSY_TRIES + 1)).trigger("nightly", {})


def test_what_only_reads_is_asked_again_where_no_answer_comes(monkeypatch):
    monkeypatch.setattr(airflow_api, "BUSY_SECONDS", 0)
    said = iter([httpx.Response(201, json={"access_token": "t"}), httpx.ReadTimeout("timed out"), httpx.Response(200, json={"dag_runs": []}),
                 httpx.ReadTimeout("timed out")])

    def answer(_: httpx.Request) -> httpx.Response:
        if isinstance(one := next(said), Exception):
            raise one
        return one

    made = Airflow("http://127.0.0.1:1", "admin", "p")
    made._http = httpx.Client(base_url=made.address, transport=httpx.MockTransport(answer))
    assert made.runs("nightly") == []
    with pytest.raises(MarqueeError, match="did not answer POST /api/v2/dags/nightly/dagRuns: timed out"):
        made.trigger("nightly", {})


@pytest.mark.parametrize("no", [httpx.Response(500, json={"detail": "a bug"}), httpx.Response(403, json={"detail": "no"})])
def test_another_no_is_final(monkeypatch, no):
    with pytest.raises(MarqueeError, match=f"answered {no.status_code}"):
        airflow(monkeypatch, [no, httpx.Response(200, json={})]).trigger("nightly", {})

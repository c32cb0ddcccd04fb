"""Airflow's REST API, as one user: runs, tasks, questions and their answers."""

import time
from itertools import groupby
from typing import Any, Self

import httpx

from contracts.errors import MarqueeError
from contracts.settings import AIRFLOW_SECONDS

BUSY_TRIES, BUSY_SECONDS = 10, 2
"""Airflow on SQLite answers so while its scheduler writes, and has done nothing yet: it begins with an entry in its log."""

READ_TRIES = 3


class Airflow:
    """A session of one user. Every method raises MarqueeError with Airflow's own words where Airflow says no."""

    def __init__(self, address: str, user: str, password: str) -> None:
        self.address = address
        self._credentials = {"username": user, "password": password}
        self._http = httpx.Client(base_url=address, timeout=AIRFLOW_SECONDS)
        self._signed_in_at = -1e9

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def request(self, method: str, path: str, expect: tuple[int, ...] = (200, 201, 204), **more: Any) -> httpx.Response:
        """One call to /api/v2; signs in first, and again when the token is an hour old."""
        if time.monotonic() - self._signed_in_at > 3600:
            self._sign_in()
        response = self._send(method, f"/api/v2{path}", **more)
        for _ in range(BUSY_TRIES):
            if response.status_code in expect or not _busy(response):
                break
            time.sleep(BUSY_SECONDS)
            response = self._send(method, f"/api/v2{path}", **more)
        if response.status_code not in expect:
            raise MarqueeError(f"Airflow answered {response.status_code} to {method} {path}: {_detail(response)}")
        return response

    def _send(self, method: str, path: str, **more: Any) -> httpx.Response:
        """Reading is tried again where no answer came; of a change nobody knows then whether it was made."""
        left = READ_TRIES if method == "GET" else 1
        while True:
            try:
                return self._http.request(method, path, **more)
            except httpx.TransportError as error:
                left -= 1
                if not left:
                    raise MarqueeError(f"Airflow at {self.address} did not answer {method} {path}: {error}") from error
            time.sleep(BUSY_SECONDS)

    def _sign_in(self) -> None:
        response = self._send("POST", "/auth/token", json=self._credentials)
        if response.status_code != 201:
            raise MarqueeError(f"Airflow did not let {self._credentials['username']} in: {_detail(response)}")
        self._http.headers["Authorization"] = f"Bearer {response.json()['access_token']}"
        self._signed_in_at = time.monotonic()

    def ensure_pool(self, name: str, slots: int, description: str) -> None:
        if self.request("GET", f"/pools/{name}", expect=(200, 404)).status_code == 404:
            body = {"name": name, "slots": slots, "description": description, "include_deferred": False}
            self.request("POST", "/pools", expect=(201, 409), json=body)

    def wait_for_dag(self, dag_id: str, seconds: float = 120) -> None:
        """Returns when Airflow has read the DAG's file."""
        deadline = time.monotonic() + seconds
        while self.request("GET", f"/dags/{dag_id}", expect=(200, 404)).status_code == 404:
            if time.monotonic() > deadline:
                raise MarqueeError(f"Airflow does not know the DAG {dag_id} after {seconds:.0f} s")
            time.sleep(1)

    def unpause(self, dag_id: str) -> None:
        self.request("PATCH", f"/dags/{dag_id}", json={"is_paused": False})

    def runs(self, dag_id: str, **filters: Any) -> list[dict]:
        """Runs, newest first."""
        query = {"order_by": "-run_after", "limit": 100} | filters
        return self.request("GET", f"/dags/{dag_id}/dagRuns", params=query).json()["dag_runs"]

    def run(self, dag_id: str, run_id: str) -> dict | None:
        response = self.request("GET", f"/dags/{dag_id}/dagRuns/{run_id}", expect=(200, 404))
        return response.json() if response.status_code == 200 else None

    def trigger(self, dag_id: str, body: dict[str, Any]) -> dict:
        return self.request("POST", f"/dags/{dag_id}/dagRuns", json=body).json()

    def clear_run(self, dag_id: str, run_id: str, only_failed: bool) -> None:
        """Runs a night again: all of its tasks, or those that failed and what came after them."""
        body = {"dry_run": False, "dag_run_id": run_id, "only_failed": only_failed, "reset_dag_runs": True,
                "include_downstream": True}
        self.request("POST", f"/dags/{dag_id}/clearTaskInstances", json=body)

    def clear_tasks(self, dag_id: str, run_id: str, task_ids: list[str]) -> None:
        """Runs these tasks, and what comes after them, again."""
        body = {"dry_run": False, "dag_run_id": run_id, "task_ids": task_ids, "only_failed": False, "reset_dag_runs": True,
                "include_downstream": True}
        self.request("POST", f"/dags/{dag_id}/clearTaskInstances", json=body)

    def tasks(self, dag_id: str, run_id: str) -> list[dict]:
        path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances"
        return self.request("GET", path, params={"limit": 100}).json()["task_instances"]

    def xcom(self, dag_id: str, run_id: str, task_id: str) -> str:
        """The id that a task passed on."""
        path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/xcomEntries/return_value"
        return self.request("GET", path, params={"deserialize": "true"}).json()["value"]

    def log_tail(self, dag_id: str, run_id: str, task_id: str, attempt: int, lines: int = 15) -> list[str]:
        """The last lines of a task's log, as text."""
        path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/logs/{max(attempt, 1)}"
        response = self.request("GET", path, expect=(200, 404), params={"full_content": "true"},
                                headers={"Accept": "application/json"})
        if response.status_code == 404:
            return []
        said = (_said(entry) for entry in response.json()["content"] if isinstance(entry, dict))
        told = [line for text in said for line in text.splitlines() if line.strip()]
        return [line for line, _ in groupby(told)][-lines:]

    def questions(self, dag_id: str = "~", run_id: str = "~") -> list[dict]:
        """Questions that wait for a person."""
        query = {"response_received": "false", "state": "awaiting_input", "limit": 100}
        path = f"/dags/{dag_id}/dagRuns/{run_id}/hitlDetails"
        return self.request("GET", path, params=query).json()["hitl_details"]

    def answer(self, dag_id: str, run_id: str, task_id: str, option: str, params: dict[str, Any]) -> None:
        path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/-1/hitlDetails"
        self.request("PATCH", path, json={"chosen_options": [option], "params_input": params})

    def question_link(self, dag_id: str, run_id: str, task_id: str) -> str:
        """The page where a person answers this one question."""
        return f"{self.address}/dags/{dag_id}/runs/{run_id}/tasks/{task_id}/required_actions"


def _said(entry: dict[str, Any]) -> str:
    """What the task itself said, or why it failed; empty for what Airflow says around it."""
    if details := entry.get("error_detail"):
        return str(details[0].get("exc_value", "")) if entry.get("logger") == "task" else ""
    around = ("task", "airflow.dag_processing", "airflow.sdk.definitions")
    return "" if str(entry.get("logger", "task")).startswith(around) else str(entry.get("event", ""))


def _busy(response: httpx.Response) -> bool:
    return response.status_code == 503 or (response.status_code == 500 and "Database error" in _detail(response))


def _detail(response: httpx.Response) -> str:
    try:
        return str(response.json().get("detail", response.text))[:500]
    except ValueError:
        return response.text[:500]

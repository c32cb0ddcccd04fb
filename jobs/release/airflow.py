"""Airflow's REST API, as the service user: reading answers, starting a promotion."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from contracts.errors import MarqueeError
from contracts.settings import AIRFLOW_SECONDS, Settings

LIMIT = 100
"""Airflow's largest page."""


@contextmanager
def session(settings: Settings) -> Iterator[httpx.Client]:
    """A signed-in client; MarqueeError where Airflow does not answer, denies, or answers in another form than agreed."""
    try:
        with httpx.Client(base_url=settings.airflow_address(), timeout=AIRFLOW_SECONDS) as airflow:
            airflow.headers["Authorization"] = f"Bearer {_token(settings, airflow)}"
            yield airflow
    except httpx.HTTPError as error:
        raise MarqueeError(f"Airflow at {settings.airflow_address()} did not say what was answered: {error}") from None
    except (KeyError, ValueError, TypeError) as error:
        raise MarqueeError(f"Airflow's answer has another form than expected: {error!r}") from None


def get(airflow: httpx.Client, path: str, **query: Any) -> dict[str, Any] | None:
    """The JSON under /api/v2; None where there is nothing of that name."""
    response = airflow.get(f"/api/v2{path}", params=query)
    return None if response.status_code == 404 else response.raise_for_status().json()


def get_all(airflow: httpx.Client, path: str, what: str, **query: Any) -> list[dict[str, Any]]:
    """All of a list under /api/v2, page after page."""
    found: list[dict[str, Any]] = []
    while page := (get(airflow, path, limit=LIMIT, offset=len(found), **query) or {what: []})[what]:
        found += page
        if len(page) < LIMIT:
            break
    return found


def promotion(settings: Settings, run_id: str, partition_key: str) -> bool:
    """Starts `promote` for this candidate under this run id; False where that run is there already."""
    body = {"dag_run_id": run_id, "logical_date": None, "partition_key": partition_key}
    with session(settings) as airflow:
        response = airflow.post("/api/v2/dags/promote/dagRuns", json=body)
        if response.status_code != 409:
            response.raise_for_status()
        return response.status_code != 409


def _token(settings: Settings, airflow: httpx.Client) -> str:
    credentials = {"username": settings.airflow_user, "password": settings.airflow_password}
    response = airflow.post("/auth/token", json=credentials)
    if response.status_code != 201:
        raise MarqueeError(
            f"Airflow did not let {settings.airflow_user!r} in ({response.status_code}): MARQUEE_AIRFLOW_USER and _PASSWORD"
        )
    return response.json()["access_token"]

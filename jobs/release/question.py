"""The approver's answer, read at its source: Airflow's REST API, never what a task passed on.

Any user of Airflow can set a task to success; only an answer in `hitlDetails` is an answer.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import httpx

from contracts.errors import MarqueeError
from contracts.release import Manifest
from contracts.settings import Settings

APPROVE, REJECT = "Approve", "Reject"
WAITING = ("awaiting_input", "deferred", "running", "queued", "scheduled", "up_for_retry", "up_for_reschedule",
           "restarting", None)
"""Task states in which an answer may still come."""


@dataclass(frozen=True)
class QuestionAddress:
    """Where the question was asked."""

    dag_id: str
    run_id: str
    task_id: str


@dataclass(frozen=True)
class Answer:
    """What Airflow knows of the question. `chosen` is None until somebody answered."""

    task_state: str | None
    body: str
    asked_at: datetime
    answered_at: datetime | None
    chosen: list[str] | None
    responder: str | None  # user id: a display name can be chosen freely
    reason: str
    triggered_by: str | None  # who started the run by hand

    @property
    def given(self) -> bool:
        return self.answered_at is not None and self.chosen is not None

    def details(self, question: QuestionAddress) -> dict[str, Any]:
        """For the ledger: where it was asked, and the answer."""
        return {
            "dag": question.dag_id, "run": question.run_id, "task": question.task_id, "chosen": self.chosen,
            "responder": self.responder, "answer_reason": self.reason,
            "asked_at": self.asked_at.isoformat(), "answered_at": self.answered_at and self.answered_at.isoformat(),
        }


def fetch(settings: Settings, question: QuestionAddress) -> Answer | None:
    """The question as Airflow has it now; None where none was asked. MarqueeError where Airflow does not answer."""
    run = f"/api/v2/dags/{question.dag_id}/dagRuns/{question.run_id}"
    task = f"{run}/taskInstances/{question.task_id}/-1/hitlDetails"
    try:
        with httpx.Client(base_url=settings.airflow_address(), timeout=30) as airflow:
            airflow.headers["Authorization"] = f"Bearer {_token(settings, airflow)}"
            detail = airflow.get(task)
            if detail.status_code == 404:
                return None
            dag_run = airflow.get(run)
            return _answer(detail.raise_for_status().json(), dag_run.raise_for_status().json())
    except httpx.HTTPError as error:
        raise MarqueeError(f"Airflow at {settings.airflow_address()} did not say what was answered: {error}") from None
    except (KeyError, ValueError, TypeError) as error:
        raise MarqueeError(f"Airflow's answer has another form than expected: {error!r}") from None


def refusal(answer: Answer | None, manifest: Manifest, settings: Settings) -> str | None:
    """Why this answer does not let this release go live; None where it does."""
    if answer is None:
        return "no question was asked"
    if not answer.given:
        return f"nobody answered the question (its task is {answer.task_state})"
    if answer.chosen != [APPROVE]:
        return f"the answer is {answer.chosen}, not {APPROVE}"
    if answer.responder not in settings.approver_names():
        return f"{answer.responder or 'nobody known'} is not an approver"
    if answer.triggered_by == answer.responder:
        return f"{answer.responder} started this run by hand, so another approver has to answer"
    if not answer.reason.strip():
        return "the answer gives no reason"
    if answer.answered_at > answer.asked_at + timedelta(hours=settings.approval_hours):
        return f"the answer came more than {settings.approval_hours:g} hours after the question"
    if manifest.payload.payload_digest not in answer.body:
        return "the question was about another payload digest"
    if manifest.evidence_digest not in answer.body:
        return "the question was about another evidence digest"
    return None


def _token(settings: Settings, airflow: httpx.Client) -> str:
    credentials = {"username": settings.airflow_user, "password": settings.airflow_password}
    response = airflow.post("/auth/token", json=credentials)
    if response.status_code != 201:
        raise MarqueeError(
            f"Airflow did not let {settings.airflow_user!r} in ({response.status_code}): MARQUEE_AIRFLOW_USER and _PASSWORD"
        )
    return response.json()["access_token"]


def _answer(detail: dict[str, Any], dag_run: dict[str, Any]) -> Answer:
    task = detail["task_instance"]
    answered_at = _moment(detail["responded_at"]) if detail["response_received"] else None
    reason = (detail["params_input"] or {}).get("reason")
    return Answer(
        task_state=task["state"],
        body=detail["body"] or "",
        asked_at=_asked_at(_moment(detail["created_at"]), _moment(task["start_date"]), answered_at),
        answered_at=answered_at,
        chosen=detail["chosen_options"],
        responder=(detail["responded_by_user"] or {}).get("id"),
        reason=reason if isinstance(reason, str) else "",
        triggered_by=dag_run.get("triggering_user_name"),
    )


def _asked_at(created: datetime, started: datetime | None, answered: datetime | None) -> datetime:
    """A question that was cleared and asked again keeps its first `created_at`; its task then started anew, before the
    answer. A start after the answer is Airflow taking the task up again."""
    if started and created < started and (answered is None or started <= answered):
        return started
    return created


def _moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None

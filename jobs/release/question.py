"""The approvers' answers, read at their source: Airflow's REST API, never what a task passed on.

Any user of Airflow can set a task to success, clear it, or forge what it passed on; only an answer in `hitlDetails`, to
the very text that the ledger and the release's files give, is an answer.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import httpx

from contracts.question import DAG, TASKS, Question
from contracts.release import Manifest
from contracts.settings import Settings
from jobs.release import airflow as rest
from jobs.release.refusals import says_something

APPROVE, REJECT = "Approve", "Reject"
WAITING = ("awaiting_input", "deferred", "running", "queued", "scheduled", "up_for_retry", "up_for_reschedule",
           "restarting", None)
"""Task states in which an answer may still come."""

SWAP_TIME = timedelta(hours=1)
"""An answer in time may be swapped for so long after the question's own, and after each try."""

UNKNOWN = "*"
"""Airflow does not say who made an asset event through its API."""


@dataclass(frozen=True)
class QuestionAddress:
    """Where the (first) question was asked."""

    dag_id: str
    run_id: str
    task_id: str

    def each(self, needed: int) -> list["QuestionAddress"]:
        """The questions of one promotion, as many as people are needed."""
        return [self, *(replace(self, task_id=task) for task in TASKS[1:needed])]


@dataclass(frozen=True)
class Answer:
    """What Airflow knows of one question. `chosen` is None until somebody answered."""

    address: QuestionAddress
    task_state: str | None
    body: str
    answered_at: datetime | None
    chosen: list[str] | None
    responder: str | None  # user id: a display name can be chosen freely
    reason: str
    started_by: tuple[str, ...] = ()  # who started the run, or the night that it came from, by hand
    rejected_before: str | None = None  # who said no before the task was cleared

    @property
    def given(self) -> bool:
        return self.answered_at is not None and self.chosen is not None

    @property
    def rejected_by(self) -> str | None:
        """Who said no, now or before the task was cleared."""
        return (self.responder or "unknown") if self.chosen == [REJECT] else self.rejected_before

    def details(self) -> dict[str, Any]:
        """For the ledger: where it was asked, and the answer."""
        return {
            "dag": self.address.dag_id, "run": self.address.run_id, "task": self.address.task_id, "chosen": self.chosen,
            "responder": self.responder, "answer_reason": self.reason,
            "answered_at": self.answered_at and self.answered_at.isoformat(),
        }


def fetch(settings: Settings, question: QuestionAddress) -> Answer | None:
    """The question as Airflow has it now; None where none was asked. MarqueeError where Airflow does not answer."""
    with rest.session(settings) as airflow:
        detail = rest.get(airflow, f"{_task(question)}/hitlDetails")
        return _answer(airflow, question, detail) if detail else None


def about(settings: Settings, evidence_digest: str) -> list[Answer]:
    """Every question of `promote` that shows this evidence, in whichever run, with its answer so far."""
    with rest.session(settings) as airflow:
        details = rest.get_all(airflow, f"/dags/{DAG}/dagRuns/~/hitlDetails", "hitl_details", body_search=evidence_digest)
        return [_answer(airflow, _address(detail), detail) for detail in details]


def refusal(answer: Answer | None, asked: Question, manifest: Manifest, settings: Settings) -> str | None:
    """Why this answer does not let this release go live; None where it does."""
    if answer is None:
        return "no question was asked"
    if (answer.address.dag_id, answer.address.task_id in TASKS) != (DAG, True):
        return f"{answer.address.dag_id}.{answer.address.task_id} is not where approvers are asked"
    if not answer.given:
        return f"nobody answered the question (its task is {answer.task_state})"
    if answer.chosen != [APPROVE]:
        return f"the answer is {answer.chosen}, not {APPROVE}"
    if answer.responder not in settings.approver_names():
        return f"{answer.responder or 'nobody known'} is not an approver"
    if UNKNOWN in answer.started_by:
        return "somebody unknown handed the candidate over by hand, as an asset event; trigger `promote` with its partition key instead"
    if answer.responder in answer.started_by:
        return f"{answer.responder} started this run by hand, so another approver has to answer"
    if not says_something(answer.reason):
        return "the answer gives no reason"
    if answer.answered_at < asked.asked_at:
        return f"the answer is older than the question, which was asked (again) at {asked.asked_at:%Y-%m-%d %H:%M:%S} UTC"
    if answer.answered_at > asked.due:
        return f"the answer came after {asked.due:%Y-%m-%d %H:%M} UTC, when the question had expired"
    return _another_text(answer.body, asked, manifest)


def _another_text(body: str, asked: Question, manifest: Manifest) -> str | None:
    if manifest.payload.payload_digest not in body:
        return "the question was about another payload digest"
    if manifest.evidence_digest not in body:
        return "the question was about another evidence digest"
    if body.strip() != asked.body.strip():
        return "the question showed another text than was asked"
    return None


def _answer(airflow: httpx.Client, address: QuestionAddress, detail: dict[str, Any]) -> Answer:
    reason = (detail["params_input"] or {}).get("reason")
    return Answer(
        address=address,
        task_state=detail["task_instance"]["state"],
        body=detail["body"] or "",
        answered_at=_moment(detail["responded_at"]) if detail["response_received"] else None,
        chosen=detail["chosen_options"],
        responder=(detail["responded_by_user"] or {}).get("id"),
        reason=reason if isinstance(reason, str) else "",
        started_by=tuple(_started_by(airflow, address)),
        rejected_before=_rejected_before(airflow, address, detail["task_instance"]["try_number"]),
    )


def _started_by(airflow: httpx.Client, address: QuestionAddress) -> Iterator[str]:
    """Of the run itself, and of the night that handed the candidate over."""
    run = f"/dags/{address.dag_id}/dagRuns/{address.run_id}"
    night = rest.get(airflow, f"{run}/upstreamAssetEvents") or {"asset_events": []}
    sources = {(event["source_dag_id"], event["source_run_id"]) for event in night["asset_events"] if event["source_run_id"]}
    if any((event.get("extra") or {}).get("from_rest_api") for event in night["asset_events"]):
        yield UNKNOWN
    for path in (run, *(f"/dags/{dag}/dagRuns/{source}" for dag, source in sources)):
        if name := (rest.get(airflow, path) or {}).get("triggering_user_name"):
            yield name


def _rejected_before(airflow: httpx.Client, address: QuestionAddress, tries: int) -> str | None:
    """Clearing the task asks anew, and keeps the earlier answer as that of an earlier try."""
    for number in range(1, tries):
        earlier = rest.get(airflow, f"{_task(address)}/hitlDetails/tries/{number}") or {}
        if earlier.get("chosen_options") == [REJECT]:
            return (earlier["responded_by_user"] or {}).get("id") or "unknown"
    return None


def _address(detail: dict[str, Any]) -> QuestionAddress:
    task = detail["task_instance"]
    return QuestionAddress(task["dag_id"], task["dag_run_id"], task["task_id"])


def _task(question: QuestionAddress) -> str:
    return f"/dags/{question.dag_id}/dagRuns/{question.run_id}/taskInstances/{question.task_id}/-1"


def _moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None

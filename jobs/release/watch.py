"""`marquee watch`: what somebody should be told of, and the close of questions whose `record` was killed.

Each finding has a key that stays the same while it is the same thing, so that whoever tells it tells it once.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, time, timedelta
from typing import Any

from contracts import clock
from contracts.errors import UsageError
from contracts.release import State
from contracts.settings import Settings
from jobs.release import airflow as rest
from jobs.release import ask, figures
from jobs.release.question import about
from jobs.release.record import reconcile
from ledger import Ledger, open_ledger

BEHIND = timedelta(minutes=15)
SWAPPED = timedelta(minutes=1)
"""Replicas switch within seconds; one that serves another release for longer missed the swap."""
RECENT = timedelta(days=1)
"""A rollback that is older was told, or happened before anybody watched."""


def run(settings: Settings) -> dict[str, Any]:
    """`findings`, each with kind, key, text and link; `closed`, the releases whose question was closed here.

    MarqueeError where Airflow does not answer.
    """
    ledger = open_ledger(settings)
    ledger.resolve_overdue("watch")
    figures.sample(settings, ledger)
    closed = reconcile(settings)
    found = [*_questions(settings, ledger, closed), *_rollbacks(settings, ledger), *_replicas(settings, ledger), *_night(settings), *_launches(settings)]
    at = datetime.now(UTC).isoformat(timespec="seconds")
    return {"findings": [{"at": at, **finding} for finding in found], "closed": closed}


def _questions(settings: Settings, ledger: Ledger, closed: list[str]) -> Iterator[dict[str, str]]:
    """Half the time gone without an answer; expired without `record`, unanswered or without a swap."""
    for row in ledger.releases():
        expired = row.release_id in closed and row.state == State.EXPIRED
        if not expired and row.state != State.AWAITING_APPROVAL:
            continue
        asked = ask.asked(ledger, row.release_id)
        if not expired and datetime.now(UTC) < asked.half:
            continue
        for answer in about(settings, row.evidence_digest):
            if answer.given and not expired:
                continue
            where = answer.address
            link = f"{settings.airflow_address()}/dags/{where.dag_id}/runs/{where.run_id}/tasks/{where.task_id}/required_actions"
            if expired:
                yield _finding("expired", f"expired/{where.run_id}", f"{asked.subject} {ledger.transitions(row.release_id)[-1].reason}", link)
            else:
                yield _finding("half_time", f"half_time/{where.run_id}/{where.task_id}/{asked.asked_at}",
                               f"{asked.subject} Half the time is gone; it expires at {asked.due:%Y-%m-%d %H:%M} UTC", link)


def _rollbacks(settings: Settings, ledger: Ledger) -> Iterator[dict[str, str]]:
    """By a person, or by a probe that failed or never came."""
    since, link = clock.now(settings.home) - RECENT, f"{settings.airflow_address()}/dags/roll_back"
    everything = [t for row in ledger.releases() for t in ledger.transitions(row.release_id) if t.from_state != t.to_state]
    for t in everything:
        if t.to_state != State.ROLLED_BACK or t.at < since:
            continue
        # a person's reason stands with the release that they returned to
        returns = [o for o in everything if o.to_state == State.PROBING and o.details.get("from") == t.release_id and o.at <= t.at]
        why = max(returns, key=lambda o: o.at) if returns and t.from_state == State.LIVE else t
        to = f" to {why.release_id}" if why is not t else ""
        yield _finding("rolled_back", f"rolled_back/{t.release_id}/{t.at.isoformat()}",
                       f"{t.release_id} was rolled back{to} by {why.actor}: {why.reason}", link)


def _replicas(settings: Settings, ledger: Ledger) -> Iterator[dict[str, str]]:
    """Those that serve another release than the live one, a while after the last swap or roll-back. (One that serves
    nothing is not ready, and says so itself; a probe looks at each.)"""
    pointer = ledger.pointer()
    if pointer is None or pointer.phase != "live":
        return
    moved = [t.at for row in ledger.releases() for t in ledger.transitions(row.release_id) if t.to_state in (State.LIVE, State.ROLLED_BACK)]
    if moved and clock.now(settings.home) - max(moved) < SWAPPED:
        return
    for replica in ledger.replicas():
        if replica.serving not in (None, pointer.release_id):
            yield _finding("replica_behind", f"replica_behind/{replica.replica_id}/{pointer.release_id}",
                           f"replica {replica.replica_id} at {replica.address} serves {replica.serving}, and {pointer.release_id} is live; "
                           f"its log says why", f"{replica.address}/readyz")


def _night(settings: Settings) -> Iterator[dict[str, str]]:
    """Still running at the first MARQUEE_NIGHT_DUE after its start."""
    if not settings.night_due:
        return
    try:
        due = time.fromisoformat(settings.night_due)
    except ValueError:
        raise UsageError(f"MARQUEE_NIGHT_DUE={settings.night_due!r}: say an hour, as 08:00, or leave it empty") from None
    with rest.session(settings) as airflow:
        for night in (rest.get(airflow, "/dags/nightly/dagRuns", state=["running", "queued"], limit=rest.LIMIT) or {"dag_runs": []})["dag_runs"]:
            began = datetime.fromisoformat(night["start_date"] or night["queued_at"])
            deadline = datetime.combine(began.date(), due, UTC)
            deadline += timedelta(days=deadline <= began)
            if datetime.now(UTC) > deadline:
                run_id = night["dag_run_id"]
                yield _finding("night_late", f"night_late/{run_id}/{deadline}", f"the night {run_id} is {night['state']} at {settings.night_due} UTC",
                               f"{settings.airflow_address()}/dags/nightly/runs/{run_id}")


def _launches(settings: Settings) -> Iterator[dict[str, str]]:
    """The oldest run of `launches` after the last good one was due a while ago; or there is none after it, and it is old:
    nobody starts them (the DAG is paused)."""
    with rest.session(settings) as airflow:
        runs = (rest.get(airflow, "/dags/launches/dagRuns", order_by="-run_after", limit=rest.LIMIT) or {"dag_runs": []})["dag_runs"]
    waiting = []
    for run_ in runs:
        if run_["state"] == "success":
            break
        waiting.append(run_)
    for oldest in (waiting or runs[:1])[-1:]:
        since = datetime.fromisoformat(oldest["queued_at"] or oldest["run_after"])
        if datetime.now(UTC) - since <= BEHIND:
            return
        run_id = oldest["dag_run_id"]
        yield _finding("launches_behind", f"launches_behind/{run_id}", f"no launch or closure has reached serving since {since:%H:%M} UTC",
                       f"{settings.airflow_address()}/dags/launches/runs/{run_id}")


def _finding(kind: str, key: str, text_: str, link: str) -> dict[str, str]:
    return {"kind": kind, "key": key, "text": text_, "link": link}

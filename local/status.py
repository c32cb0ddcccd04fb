"""What runs, what is live, what waits: `marquee status`."""

import json
from typing import Any

from rich.console import Console
from rich.table import Table

from contracts.errors import MarqueeError
from contracts.settings import Settings
from local import home, services
from local.airflow_api import Airflow


def report(settings: Settings) -> dict[str, Any]:
    """Addresses and whether each answers, `live` (or None), the newest `night`, `pending` questions with their links."""
    health = services.airflow_health(settings)
    return {
        "home": str(settings.home),
        "airflow": {"address": settings.airflow_address(), "answers": bool(health), "parts": health},
        "api": {"address": settings.serving_address(), "docs": f"{settings.serving_address()}/docs",
                "answers": services.ok(f"{settings.serving_address()}/healthz")},
        "milvus": {"address": settings.milvus_address(), "answers": services.milvus_answers(settings)},
        "logs": str(settings.logs),
        "live": live(settings),
        "night": night(settings) if health else None,
        "pending": pending(settings) if health else [],
    }


def live(settings: Settings) -> dict[str, Any] | None:
    """The live release: id, digests, day, since when, who approved it and why, and who came back to it and why where
    somebody did; None before the first."""
    from contracts.release import State
    from ledger import open_ledger

    ledger = open_ledger(settings)
    pointer = ledger.pointer()
    if not pointer or not pointer.release_id:
        return None
    row = ledger.get(pointer.release_id)
    arrival, way = ledger.arrival(pointer.release_id), (State.AWAITING_APPROVAL, State.PROBING)
    approval = next((t for t in reversed(ledger.transitions(pointer.release_id)) if (t.from_state, t.to_state) == way), None)
    back = arrival if arrival != approval else None
    return {
        "release_id": row.release_id,
        "day": str(row.day),
        "state": str(row.state),
        "payload_digest": row.payload_digest,
        "evidence_digest": row.evidence_digest,
        "approver": approval.actor if approval else None,
        "reason": approval.reason if approval else None,
        "since": arrival.at if arrival else None,
        "back_by": back.actor if back else None,
        "back_reason": back.reason if back else None,
        "quality": quality(ledger.live_quality(pointer.release_id)),
    }


def quality(nights: list) -> dict[str, Any] | None:
    """What the newest night that was measured says of the live release; None before the first."""
    if not nights:
        return None
    night = nights[-1]
    return {"ds": night.ds} | {name: night.figures[name] for name in ("requests", "recall_at_200", "ndcg_at_10", "models_age_days")}


def pending(settings: Settings) -> list[dict[str, Any]]:
    """Questions that wait for an approver, with their own pages; not those of a candidate that is superseded."""
    from contracts.release import State
    from ledger import open_ledger

    waiting = {row.release_id for row in open_ledger(settings).releases() if row.state == State.AWAITING_APPROVAL}
    with service_user(settings) as airflow:
        try:
            questions = airflow.questions("promote")
        except MarqueeError:
            return []
        return [_question(airflow, question) for question in questions if any(r in question["subject"] for r in waiting)]


def _question(airflow: Airflow, question: dict[str, Any]) -> dict[str, Any]:
    task = question["task_instance"]
    link = airflow.question_link(task["dag_id"], task["dag_run_id"], task["task_id"])
    return {"subject": question["subject"], "since": question["created_at"], "run_id": task["dag_run_id"], "link": link}


def night(settings: Settings) -> dict[str, Any] | None:
    """The newest run of `nightly`: its day, its state, the tasks that it is at or that failed, and its page; None before the
    first, and where Airflow does not say."""
    with service_user(settings) as airflow:
        try:
            runs = airflow.runs("nightly", limit=1)
            tasks = airflow.tasks("nightly", runs[0]["dag_run_id"]) if runs else []
        except MarqueeError:
            return None
        if not runs:
            return None
        run, seen = runs[0], ("running", "up_for_retry", "failed")
        at = sorted(task["task_id"] for task in tasks if task["state"] in seen)
        return {"ds": run["logical_date"][:10], "state": run["state"], "tasks": at,
                "link": f"{airflow.address}/dags/nightly/runs/{run['dag_run_id']}"}


def service_user(settings: Settings) -> Airflow:
    """Airflow as the project's own service user."""
    return Airflow(settings.airflow_address(), settings.airflow_user, settings.airflow_password)


def status(settings: Settings, as_json: bool) -> str:
    """One line of JSON, or a few lines for a person."""
    settings = home.reread(settings)
    found = report(settings)
    return json.dumps(found, sort_keys=True, default=str) if as_json else _for_a_person(found)


def _for_a_person(found: dict[str, Any]) -> str:
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for name, address in (("Airflow", found["airflow"]["address"]), ("API", found["api"]["docs"]), ("Milvus", found["milvus"]["address"])):
        answers = found[name.lower()]["answers"]
        table.add_row(name, address, "[green]answers[/]" if answers else "[red]does not answer[/]")
    if current := found["live"]:
        table.add_row("Live", current["release_id"], f"approved by {current['approver']}: {current['reason']}")
        since = f"since {current['since']:%Y-%m-%d %H:%M} UTC" if current["since"] else ""
        table.add_row("", current["state"], since + (f": rolled back to by {current['back_by']}: {current['back_reason']}" if current["back_by"] else ""))
        if seen := current["quality"]:
            table.add_row("", f"on {seen['ds']}", f"recall@200 {seen['recall_at_200']:.4f}, NDCG@10 {seen['ndcg_at_10']:.4f} over "
                          f"{seen['requests']} requests; models {seen['models_age_days']} days old (`marquee live-quality`)")
    else:
        table.add_row("Live", "nothing yet", "")
    if night := found["night"]:
        state = f"[red]{night['state']}[/]" if night["state"] == "failed" else night["state"]
        table.add_row("Night", f"{night['ds']}: {state}", ", ".join([*night["tasks"], night["link"]]))
    for question in found["pending"]:
        table.add_row("Waits", question["subject"], question["link"])
    table.add_row("Logs", found["logs"], "")
    console = Console(width=200)
    with console.capture() as capture:
        console.print(table)
    return capture.get().rstrip()

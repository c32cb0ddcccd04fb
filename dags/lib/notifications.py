"""Tells people: a question waits, a promotion expired, a night failed. A line of `<home>/notifications.jsonl`, or a POST
to MARQUEE_NOTIFY_WEBHOOK. A notification that cannot be sent never fails a task.
"""

import json
import os
import urllib.request
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from airflow.sdk import BaseNotifier

from contracts.settings import Settings, load

FILE = "notifications.jsonl"


class Notify(BaseNotifier):
    """`kind` is `waits`, `failed` or `expired`; the message has where to look and what was said last."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def notify(self, context: Any) -> None:
        settings = load()
        message = self.message(context, settings)
        try:
            send(settings, message)
        except OSError as error:
            self.log.warning("notification not sent (%s); it is in %s instead", error, settings.home / FILE)
            to_file(settings.home / FILE, message)

    def message(self, context: Any, settings: Settings) -> dict[str, str]:
        """What happened, where, why, and the link."""
        task = context["task_instance"]
        link = f"{settings.airflow_address()}/dags/{task.dag_id}/runs/{task.run_id}/tasks/{task.task_id}"
        error = context.get("exception")
        return {
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "kind": "expired" if type(error).__name__ == "HITLTimeoutError" else self.kind,
            "dag": task.dag_id,
            "run": task.run_id,
            "task": task.task_id,
            "text": (str(error) or type(error).__name__) if error else str(getattr(context.get("task"), "subject", "")),
            "link": f"{link}/required_actions" if self.kind == "waits" else link,
        }


def send(settings: Settings, message: dict[str, str]) -> None:
    """Raises OSError where the webhook does not take it."""
    if not settings.notify_webhook:
        to_file(settings.home / FILE, message)
        return
    request = urllib.request.Request(settings.notify_webhook, json.dumps(message).encode(), {"Content-Type": "application/json"})
    urllib.request.urlopen(request, timeout=10).close()


def to_file(path: Path, message: dict[str, str]) -> None:
    """One write of one line: several tasks may append at once."""
    line = (json.dumps(message, ensure_ascii=False) + "\n").encode()
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(file, line)
    finally:
        os.close(file)

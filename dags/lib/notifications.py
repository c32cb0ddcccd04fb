"""Tells people, each thing once (again where a kill came between the message and its mark): a question waits, half its time is gone, it expired; a night is red or late; launches
are behind; a release was rolled back. To MARQUEE_NOTIFY_WEBHOOK, by mail (MARQUEE_NOTIFY_SMTP, MARQUEE_NOTIFY_TO), and
where neither is set or takes it, a line of `<home>/notifications.jsonl`. Nothing here ever fails a task.
"""

import fcntl
import hashlib
import json
import os
import smtplib
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from email.message import EmailMessage
from http.client import HTTPException
from pathlib import Path
from typing import IO, Any
from urllib.parse import unquote, urlsplit

from airflow.sdk import BaseNotifier

from contracts.settings import Settings, load

FILE = "notifications.jsonl"
TOLD = "notified"
"""Folder of marks, one a thing that was told."""

ALWAYS_ON = ("launches", "watch")
"""DAGs that run every few minutes: what breaks them is told once a day and reason."""

SECONDS = 10.0


class Notify(BaseNotifier):
    """`kind` is `waits` or `failed`; the message has where to look and what was said last. `unless_told`: says nothing
    where a task before it in the same run was told of already."""

    def __init__(self, kind: str, unless_told: bool = False) -> None:
        super().__init__()
        self.kind, self.unless_told = kind, unless_told

    def notify(self, context: Any) -> None:
        try:
            settings, task = load(), context["task_instance"]
            run = f"run/{task.dag_id}/{task.run_id}"
            message = self.message(context, settings)
            if self.unless_told and is_told(settings, run):
                return
            tell(settings, _key(message, task), message)
            if message["kind"] != "waits":
                mark(settings, run)
        except Exception as error:
            self.log.warning("not notified: %r", error)

    def message(self, context: Any, settings: Settings) -> dict[str, str]:
        """What happened, where, why, and the link."""
        task = context["task_instance"]
        link = f"{settings.airflow_address()}/dags/{task.dag_id}/runs/{task.run_id}/tasks/{task.task_id}"
        error = context.get("exception")
        return {
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "kind": _kind(self.kind, task.dag_id, error),
            "dag": task.dag_id,
            "run": task.run_id,
            "task": task.task_id,
            "text": (str(error) or type(error).__name__) if error else str(getattr(context.get("task"), "subject", "")),
            "link": f"{link}/required_actions" if self.kind == "waits" else link,
        }


def tell(settings: Settings, key: str, message: dict[str, str]) -> bool:
    """Sends the message where nobody has sent it under this key before; True where it did."""
    with _turn(settings, key) as file:
        if file.read():
            return False
        _send(settings, message)
        file.write(key + "\n")
    return True


def _send(settings: Settings, message: dict[str, str]) -> None:
    """Each way that is set; a line of the file where there is none, or one does not take it."""
    ways = ([_to_webhook] if settings.notify_webhook else []) + ([_to_mail] if settings.notify_smtp and settings.notify_to else [])
    lost = []
    for way in ways:
        try:
            way(settings, message)
        except (OSError, ValueError, HTTPException, smtplib.SMTPException) as error:
            lost.append(f"{way.__name__.removeprefix('_to_')}: {error}")
    if lost or not ways:
        to_file(settings.home / FILE, message | ({"not_sent": "; ".join(lost)} if lost else {}))


def mark(settings: Settings, key: str) -> None:
    """As told, without a message of its own."""
    with _turn(settings, key) as file:
        if not file.read():
            file.write(key + "\n")


def is_told(settings: Settings, key: str) -> bool:
    path = _mark(settings, key)
    return path.exists() and path.stat().st_size > 0


@contextmanager
def _turn(settings: Settings, key: str) -> Iterator[IO[str]]:
    """The mark, empty until the message was sent; one of many at once holds it, and a kill lets go."""
    path = _mark(settings, key)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        yield file


def to_file(path: Path, message: dict[str, str]) -> None:
    """One write of one line: several tasks may append at once."""
    line = (json.dumps(message, ensure_ascii=False) + "\n").encode()
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(file, line)
    finally:
        os.close(file)


def _kind(kind: str, dag_id: str, error: BaseException | None) -> str:
    if type(error).__name__ == "HITLTimeoutError":
        return "expired"
    return "night_red" if (kind, dag_id) == ("failed", "nightly") else kind


def _key(message: dict[str, str], task: Any) -> str:
    """What makes two messages the same. A task that was cleared is told of anew."""
    if message["dag"] in ALWAYS_ON:
        return f"{message['kind']}/{message['dag']}/{message['at'][:10]}/{message['text']}"
    if message["kind"] == "expired":
        return f"expired/{message['run']}"
    return f"{message['kind']}/{message['dag']}/{message['run']}/{message['task']}/{task.try_number}"


def _mark(settings: Settings, key: str) -> Path:
    return settings.home / TOLD / hashlib.sha256(key.encode()).hexdigest()[:32]


def _to_webhook(settings: Settings, message: dict[str, str]) -> None:
    request = urllib.request.Request(settings.notify_webhook, json.dumps(message).encode(), {"Content-Type": "application/json"})
    urllib.request.urlopen(request, timeout=SECONDS).close()


def _to_mail(settings: Settings, message: dict[str, str]) -> None:
    mail = EmailMessage()
    mail["From"], mail["To"] = settings.notify_from, settings.notify_to
    mail["Subject"] = f"Marquee: {message['kind'].replace('_', ' ')}: {' '.join(message['text'].split())[:120]}"
    mail.set_content("\n".join(f"{name}: {value}" for name, value in message.items()))
    address = urlsplit(settings.notify_smtp)
    server = smtplib.SMTP_SSL if address.scheme == "smtps" else smtplib.SMTP
    with server(address.hostname, address.port or 0, timeout=SECONDS) as smtp:
        smtp.ehlo()
        if address.scheme == "smtp" and smtp.has_extn("starttls"):
            smtp.starttls()
            smtp.ehlo()
        if address.username:
            smtp.login(unquote(address.username), unquote(address.password or ""))
        smtp.send_message(mail)

"""Notifications reach a file or a webhook, and never fail a task."""

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import SimpleNamespace

import pytest

from dags.lib.notifications import FILE, Notify


@pytest.fixture
def context() -> dict:
    task = SimpleNamespace(dag_id="nightly", run_id="r1", task_id="ingest")
    return {"task_instance": task, "exception": ValueError("plays.parquet: unreadable")}


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("MARQUEE_HOME", str(tmp_path))
    monkeypatch.delenv("MARQUEE_NOTIFY_WEBHOOK", raising=False)
    return tmp_path


def lines(home) -> list[dict]:
    return [json.loads(line) for line in (home / FILE).read_text().splitlines()]


def test_a_failure_is_a_line_with_reason_and_link(home, context):
    Notify("failed").notify(context)
    (line,) = lines(home)
    assert (line["kind"], line["task"], line["text"]) == ("failed", "ingest", "plays.parquet: unreadable")
    assert line["link"].endswith("/dags/nightly/runs/r1/tasks/ingest")


def test_a_question_links_to_its_own_page(home, context):
    Notify("waits").notify(context | {"exception": None, "task": SimpleNamespace(subject="Promote r?")})
    (line,) = lines(home)
    assert (line["kind"], line["text"]) == ("waits", "Promote r?")
    assert line["link"].endswith("/required_actions")


def test_a_timeout_of_the_question_is_an_expiry(home, context):
    from airflow.providers.standard.exceptions import HITLTimeoutError

    Notify("failed").notify(context | {"exception": HITLTimeoutError("timed out")})
    assert lines(home)[0]["kind"] == "expired"


def test_the_webhook_gets_it_instead_of_the_file(home, context, monkeypatch):
    received = []

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self):
            received.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Hook)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("MARQUEE_NOTIFY_WEBHOOK", f"http://127.0.0.1:{server.server_port}/")
    Notify("failed").notify(context)
    server.shutdown()
    assert received[0]["text"] == "plays.parquet: unreadable"
    assert not (home / FILE).exists()


def test_a_dead_webhook_falls_back_to_the_file(home, context, monkeypatch):
    monkeypatch.setenv("MARQUEE_NOTIFY_WEBHOOK", "http://127.0.0.1:9/")
    Notify("failed").notify(context)
    assert lines(home)[0]["text"] == "plays.parquet: unreadable"

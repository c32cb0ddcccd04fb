"""Notifications reach a webhook, a mailbox or a file, each once, and never fail a task."""

import json
import socketserver
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import SimpleNamespace

import pytest

from contracts.settings import load
from dags.lib.notifications import FILE, Notify, is_told, tell


@pytest.fixture
def context() -> dict:
    task = SimpleNamespace(dag_id="nightly", run_id="r1", task_id="ingest", try_number=2)
    return {"task_instance": task, "exception": ValueError("plays.parquet: unreadable")}


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("MARQUEE_HOME", str(tmp_path))
    for name in ("WEBHOOK", "SMTP", "TO"):
        monkeypatch.delenv(f"MARQUEE_NOTIFY_{name}", raising=False)
    return tmp_path


def lines(home) -> list[dict]:
    return [json.loads(line) for line in (home / FILE).read_text().splitlines()]


def test_a_failure_is_a_line_with_reason_and_link(home, context):
    Notify("failed").notify(context)
    (line,) = lines(home)
    assert (line["kind"], line["task"], line["text"]) == ("night_red", "ingest", "plays.parquet: unreadable")
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


class Mailbox(socketserver.StreamRequestHandler):
    """Speaks enough SMTP to take a mail."""

    def handle(self):
        self.wfile.write(b"220 ready\r\n")
        in_mail = False
        while line := self.rfile.readline():
            text = line.decode().rstrip("\r\n")
            self.server.lines.append(text)
            if in_mail and text != ".":
                continue
            in_mail = text.upper() == "DATA"
            self.wfile.write({"DATA": b"354 go on\r\n", "QUIT": b"221 bye\r\n"}.get(text.upper(), b"250 ok\r\n"))
            if text == "QUIT":
                return


@pytest.fixture
def mailbox(monkeypatch):
    server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Mailbox)
    server.lines = []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("MARQUEE_NOTIFY_SMTP", f"smtp://127.0.0.1:{server.server_address[1]}")
    monkeypatch.setenv("MARQUEE_NOTIFY_TO", "oncall@example.org, second@example.org")
    yield server.lines
    server.shutdown()
    server.server_close()


def test_a_mail_has_kind_and_reason(home, context, mailbox):
    Notify("failed").notify(context)
    assert [line for line in mailbox if line.upper().startswith("RCPT TO:")] == ["rcpt TO:<oncall@example.org>", "rcpt TO:<second@example.org>"]
    assert "Subject: Marquee: night red: plays.parquet: unreadable" in mailbox
    assert any(line.startswith("link: http") for line in mailbox)
    assert not (home / FILE).exists()


def test_each_thing_is_told_once(home, context):
    for _ in range(2):
        Notify("failed").notify(context)
    assert len(lines(home)) == 1
    context["task_instance"].try_number = 3
    Notify("failed").notify(context)
    assert len(lines(home)) == 2, "cleared, and red again"


def test_what_breaks_every_minute_is_told_once_a_day(home, context):
    for minute in range(3):
        context["task_instance"] = SimpleNamespace(dag_id="launches", run_id=f"r{minute}", task_id="launches", try_number=1)
        Notify("failed").notify(context)
    assert len(lines(home)) == 1
    Notify("failed").notify(context | {"exception": ValueError("another file")})
    assert len(lines(home)) == 2


def test_the_last_task_does_not_repeat_what_an_earlier_one_told(home, context):
    record = context | {"task_instance": SimpleNamespace(dag_id="nightly", run_id="r1", task_id="record", try_number=1)}
    Notify("failed").notify(context)
    Notify("failed", unless_told=True).notify(record)
    assert len(lines(home)) == 1
    record["task_instance"].run_id = "r2"
    Notify("failed", unless_told=True).notify(record)
    assert len(lines(home)) == 2, "where nobody spoke before, it does"


def test_a_kill_while_it_is_sent_loses_nothing(home, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("dags.lib.notifications.to_file", killed)
        with pytest.raises(KeyboardInterrupt):
            tell(load(), "key", {"kind": "late", "text": "x"})
    assert not is_told(load(), "key")
    assert tell(load(), "key", {"kind": "late", "text": "x"})
    assert not tell(load(), "key", {"kind": "late", "text": "x"})
    assert len(lines(home)) == 1


def killed(*_):
    raise KeyboardInterrupt


def test_an_answer_that_is_no_http_falls_back_to_the_file(home, context, monkeypatch):
    with socketserver.TCPServer(("127.0.0.1", 0), Nonsense) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        monkeypatch.setenv("MARQUEE_NOTIFY_WEBHOOK", f"http://127.0.0.1:{server.server_address[1]}/")
        Notify("failed").notify(context)
    (line,) = lines(home)
    assert "webhook" in line["not_sent"]


class Nonsense(socketserver.StreamRequestHandler):
    def handle(self):
        while self.rfile.readline() not in (b"\r\n", b""):
            pass
        self.wfile.write(b"nonsense\r\n\r\n")


def test_one_of_many_tells(home):
    told = []
    threads = [threading.Thread(target=lambda: told.append(tell(load(), "key", {"kind": "late", "text": "x"}))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (sum(told), len(lines(home))) == (1, 1)


def test_nothing_here_fails_a_task(home, context, monkeypatch):
    monkeypatch.setenv("MARQUEE_HOME", "/proc/nowhere")
    Notify("failed").notify(context)
    Notify("failed").notify({})

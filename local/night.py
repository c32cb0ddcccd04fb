"""Follows a run of the real scheduler: a live table for a person, plain lines otherwise."""

import time
from collections.abc import Callable, Iterable
from datetime import datetime

from rich.console import Console
from rich.live import Live
from rich.table import Table

from contracts.errors import MarqueeError
from contracts.settings import Settings
from local.airflow_api import Airflow

FINISHED = {"success", "failed", "skipped", "upstream_failed", "removed"}
COLOURS = {"success": "green", "running": "cyan", "failed": "red", "upstream_failed": "red", "awaiting_input": "yellow",
           "up_for_retry": "yellow", "skipped": "dim"}
POLL_SECONDS = 1.5


class RedRun(MarqueeError):
    """A run failed; the message has the task, its last words, and where its log is."""


class Follower:
    """One run as it goes: `wait` returns when `until` says so or the run ends."""

    def __init__(self, settings: Settings, airflow: Airflow, dag_id: str, run_id: str) -> None:
        self.settings, self.airflow, self.dag_id, self.run_id = settings, airflow, dag_id, run_id
        self.console = Console(stderr=True, soft_wrap=True)
        self._said: dict[str, str] = {}

    def wait(self, until: Callable[[list[dict]], bool] = lambda tasks: False) -> str:
        """The run's state, `running` where `until` ended the wait. Raises RedRun where it failed."""
        if not self.console.is_terminal:
            return self._wait(until, self._say_changes)
        with Live(console=self.console, refresh_per_second=4) as live:
            return self._wait(until, lambda tasks: live.update(self._table(tasks)))

    def _wait(self, until: Callable[[list[dict]], bool], show: Callable[[list[dict]], None]) -> str:
        while True:
            run = self.airflow.run(self.dag_id, self.run_id)
            tasks = sorted(self.airflow.tasks(self.dag_id, self.run_id), key=_order)
            show(tasks)
            state = run["state"] if run else "gone"
            if state == "success":
                return state
            if state not in ("running", "queued"):
                raise RedRun(self._why_red(tasks))
            if until(tasks):
                return "running"
            time.sleep(POLL_SECONDS)

    def _why_red(self, tasks: list[dict]) -> str:
        failed = [task for task in tasks if task["state"] == "failed"]
        if not failed:
            return f"{self.dag_id} {self.run_id} failed; see {self.airflow.address}/dags/{self.dag_id}/runs/{self.run_id}"
        task = failed[0]
        lines = self.airflow.log_tail(self.dag_id, self.run_id, task["task_id"], task["try_number"])
        log = (self.settings.logs / "tasks" / f"dag_id={self.dag_id}" / f"run_id={self.run_id}" / f"task_id={task['task_id']}"
               / f"attempt={max(task['try_number'], 1)}.log")
        return "\n".join((f"{self.dag_id}: task {task['task_id']} failed", *(f"    {line}" for line in lines), f"log: {log}"))

    def _say_changes(self, tasks: Iterable[dict]) -> None:
        for task in tasks:
            state = task["state"] or "waiting"
            if self._said.get(task["task_id"], "waiting") != state and state not in ("scheduled", "queued"):
                self._said[task["task_id"]] = state
                self.console.print(f"  {task['task_id']:<24} {state:<16} {_seconds(task)}", highlight=False)

    def _table(self, tasks: list[dict]) -> Table:
        table = Table(box=None, padding=(0, 2, 0, 0), title=f"{self.dag_id} {self.run_id}", title_justify="left")
        for name in ("task", "state", "seconds"):
            table.add_column(name)
        for task in tasks:
            state = task["state"] or "waiting"
            table.add_row(task["task_id"], f"[{COLOURS.get(state, 'white')}]{state}[/]", _seconds(task))
        return table


def _order(task: dict) -> tuple:
    """As they ran; those that have not yet run come last."""
    return (task["start_date"] is None, task["start_date"] or "", task["task_id"])


def _seconds(task: dict) -> str:
    if task["duration"] is not None and task["state"] in FINISHED:
        return f"{task['duration']:.0f} s"
    if task["state"] == "running" and task["start_date"]:
        started = datetime.fromisoformat(task["start_date"].replace("Z", "+00:00"))
        return f"{(datetime.now(started.tzinfo) - started).total_seconds():.0f} s"
    return ""

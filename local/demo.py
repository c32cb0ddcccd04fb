"""`make demo`: one night through the real scheduler, from landing to the live shelf. Again: the next night. Stopped
anywhere, it goes on from there.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from croniter import croniter
from rich.console import Console

from contracts import blocked
from contracts.errors import MarqueeError, UsageError
from contracts.landing import list_intervals
from contracts.release import EVIDENCE, State
from contracts.settings import REPOSITORY, Settings
from local import airflow_environment, home, services, summary
from local.airflow_api import Airflow
from local.night import Follower, RedRun
from local.status import service_user

if TYPE_CHECKING:
    from ledger import ReleaseRow

SOURCES = ("world", "movielens")
ANSWERS = {"yes": "Approve", "no": "Reject", "ask": ""}
ANSWER_AFTER_SECONDS = 7.0
"""An answer within about 5 s of its question races with Airflow's scheduler and can fail the task."""

DEMO_FILE = "demo.json"
"""What this home's demo began with: its source, and its data and recipe."""

console = Console(stderr=True, highlight=False, soft_wrap=True)


@dataclass(frozen=True)
class Demo:
    """What a demo home was begun with; kept, so that the next night goes on with the same."""

    source: str
    recipe: str
    data: str | None = None


def run(settings: Settings, source: str | None, data: Path | None, recipe: str | None, approve: str) -> None:
    """Lands, runs `nightly` and `promote` to the end (or to the question: `ask`), prints what is live.

    What is not given is as this home's demo began. Raises UsageError for wrong arguments or a home of another source, MarqueeError for a red night; of a blocked one
    everything is shown all the same, and the next call goes on with the next night.
    """
    demo = _agree(settings, source, data, recipe, approve)
    settings = services.start(home.reread(settings))
    ds = _land(settings, demo)
    summary.show(settings, _run_night(settings, ds, approve))


def _run_night(settings: Settings, ds: str, approve: str) -> str:
    """`nightly` and `promote` to the end, or to the question; returns tonight's candidate. MarqueeError for a red night."""
    with service_user(settings) as airflow:
        try:
            partition = _night(settings, airflow, ds)
        except RedRun:
            candidate = _candidate(settings, ds)
            if candidate is None or candidate.state != State.BLOCKED:
                raise
            summary.show(settings, candidate.release_id)
            raise MarqueeError(f"{_blocked(settings, candidate.release_id)}\n`make demo` goes on with the next night.") from None
        release = partition.rpartition(".")[0]
        if not _went_live(settings, release):
            _question(settings, airflow, partition, approve)
    return release


def _agree(settings: Settings, source: str | None, data: Path | None, recipe: str | None, approve: str) -> Demo:
    """Checks the arguments against this home's earlier demo, and writes the home's settings."""
    path = settings.home / DEMO_FILE
    begun = Demo(**json.loads(path.read_text())) if path.exists() else None
    if begun and source in (None, begun.source):
        source, recipe = begun.source, recipe or begun.recipe
        data = data or (Path(begun.data) if begun.data else None)
    source, recipe = source or SOURCES[0], recipe or "demo"
    if source not in SOURCES:
        raise UsageError(f"SOURCE={source}: there are {' and '.join(SOURCES)}")
    if approve not in ANSWERS:
        raise UsageError(f"APPROVE={approve}: say yes, no, or ask")
    if source == "movielens" and data is None:
        raise UsageError("SOURCE=movielens needs DATA=<folder with ratings.dat or ratings.csv>")
    if data is not None and not data.is_dir():
        raise UsageError(f"DATA={data}: no such folder")
    wanted = Demo(source, "movielens" if source == "movielens" else recipe, str(data.resolve()) if data else None)
    if begun:
        if begun != wanted:
            raise UsageError(
                f"{settings.home} holds a demo of {_named(begun)}, not of {_named(wanted)}: give this one a home of its own "
                "(MARQUEE_HOME=…), or stop the other with `make demo-down` and delete its folder"
            )
        return begun
    if list_intervals(settings.landing):
        raise UsageError(f"{settings.landing} holds data that no demo landed; give the demo a home of its own (MARQUEE_HOME=…)")
    settings.home.mkdir(parents=True, exist_ok=True)
    # the demo's nights lie in the past: without an end the scheduler would begin with the real yesterday
    home.write_file(settings.home, {
        "MARQUEE_RECIPE": wanted.recipe,
        "MARQUEE_NIGHTLY_UNTIL": str(datetime.now(UTC).date() - timedelta(days=3)),
    })
    path.write_text(json.dumps(wanted.__dict__))
    return wanted


def _named(demo: Demo) -> str:
    return f"{demo.source} ({demo.data or demo.recipe})"


# --- land -----------------------------------------------------------------------------------------------------------

def _land(settings: Settings, demo: Demo) -> str:
    """The night to run: the newest landed one where it is not finished, else one more lands. Returns its ds."""
    intervals = list_intervals(settings.landing)
    if len(intervals) > 1 and not _finished(settings, str(intervals[-1][0].last)):
        ds = str(intervals[-1][0].last)
        console.print(f"[bold]Going on with the night of {ds}[/]")
        return ds
    first = len(intervals) < 2
    if not first:
        _say_how_it_ended(settings, str(intervals[-1][0].last))
    console.print(f"[bold]Landing {'history and the first night' if first else 'the next night'}[/] ({_named(demo)})")
    command = ["land", "world", "--recipe", demo.recipe] if demo.source == "world" else ["land", "movielens", demo.data]
    result = _marquee(settings, *command, *([] if first else ["--next"]))
    console.print(f"  {_records(result)}")
    return result["ds"]


def _finished(settings: Settings, ds: str) -> bool:
    """The night's candidate came to an end, good or bad, so that the next night may follow."""
    from ledger import open_ledger

    under_way = {State.BUILDING, State.BUILT, State.JUDGED, State.AWAITING_APPROVAL, State.PROBING, State.FAILED}
    tonight = [row for row in open_ledger(settings).releases() if str(row.day) == ds]
    return bool(tonight) and not any(row.state in under_way for row in tonight)


def _candidate(settings: Settings, ds: str) -> "ReleaseRow | None":
    """The night's newest release."""
    from ledger import open_ledger

    tonight = [row for row in open_ledger(settings).releases() if str(row.day) == ds]
    return max(tonight, key=lambda row: row.created_at, default=None)


def _say_how_it_ended(settings: Settings, ds: str) -> None:
    """A night that put nothing live is not passed over in silence."""
    candidate = _candidate(settings, ds)
    if candidate.state == State.BLOCKED:
        console.print(f"[bold yellow]The night of {ds} was blocked:[/] {_blocked(settings, candidate.release_id)}")
    elif candidate.state in (State.REJECTED, State.EXPIRED):
        console.print(f"[bold yellow]The night of {ds} put nothing live:[/] {candidate.release_id} {candidate.state}")


def _blocked(settings: Settings, release: str) -> str:
    """The gates that failed, the ways on, and where the report is."""
    evidence = settings.releases / release / EVIDENCE
    gates = json.loads((evidence / "gates.json").read_text())["gates"]
    failed = [gate["name"] for gate in gates if gate["verdict"] == "failed"]
    fixed = [gate["name"] for gate in gates if not gate["overridable"]]
    return f"{blocked.said(release, failed, fixed)}\nReport: {(evidence / 'report.html').as_uri()}"


def _records(result: dict) -> str:
    records = result.get("records", {})
    return ", ".join(f"{rows:,} {table}" for table, rows in records.items() if isinstance(rows, int)) or "landed"


def _marquee(settings: Settings, *arguments: str) -> dict:
    """Runs a command in front of the person: its progress and errors show. Raises MarqueeError where it fails."""
    done = subprocess.run([sys.executable, "-m", "jobs.cli", *arguments], cwd=REPOSITORY, text=True, stdout=subprocess.PIPE,
                          env=airflow_environment.base(settings))
    if done.returncode:
        kind = UsageError if done.returncode == 2 else MarqueeError
        raise kind(f"`marquee {' '.join(arguments)}` failed (exit code {done.returncode}); its reason stands above")
    return json.loads(done.stdout.strip().splitlines()[-1])


# --- the night ------------------------------------------------------------------------------------------------------

def _night(settings: Settings, airflow: Airflow, ds: str) -> str:
    """Runs `nightly` for the day to its end; returns the candidate's partition key."""
    for dag_id in ("nightly", "promote", "launches"):
        airflow.wait_for_dag(dag_id)
        airflow.unpause(dag_id)
    run_id = f"demo__{ds}"
    run = airflow.run("nightly", run_id)
    if run is None:
        airflow.trigger("nightly", {"dag_run_id": run_id, **interval(settings, ds)})
    elif run["state"] == "failed":
        airflow.clear_run("nightly", run_id, only_failed=True)
    console.print(f"[bold]Night of {ds}[/]  {airflow.address}/dags/nightly/runs/{run_id}")
    Follower(settings, airflow, "nightly", run_id).wait()
    return airflow.xcom("nightly", run_id, "judge.judge")


def interval(settings: Settings, ds: str) -> dict[str, str]:
    """The run of one day as the schedule itself would make it: it starts when the day's interval has ended."""
    midnight = datetime.combine(date.fromisoformat(ds), datetime.min.time(), UTC)
    ticks = croniter(settings.nightly_cron, midnight - timedelta(seconds=1))
    start, end = ticks.get_next(datetime), ticks.get_next(datetime)
    if start > datetime.now(UTC):
        raise UsageError(f"the night of {ds} lies in this machine's future; is its clock right?")
    return {"logical_date": start.isoformat(), "data_interval_start": start.isoformat(), "data_interval_end": end.isoformat()}


def _went_live(settings: Settings, release: str) -> bool:
    """An index refresh that no person was asked about."""
    from ledger import open_ledger

    pointer = open_ledger(settings).pointer()
    return settings.unattended_refresh and pointer is not None and pointer.release_id == release


# --- the question ---------------------------------------------------------------------------------------------------

def _question(settings: Settings, airflow: Airflow, partition: str, approve: str) -> None:
    """Waits for the question; answers it and follows the run to its end, or leaves it to a person."""
    run_id = _promotion(settings, airflow, partition)
    follower = Follower(settings, airflow, "promote", run_id)
    console.print(f"[bold]Promotion[/]  {airflow.address}/dags/promote/runs/{run_id}")
    if follower.wait(lambda tasks: any(t["state"] == "awaiting_input" for t in tasks)) == "running":
        link = airflow.question_link("promote", run_id, "approve")
        if approve == "ask":
            console.print(f"[bold yellow]The question waits for you:[/] {link}\n  Sign in as {settings.approver_names()[0]} "
                          "(password below), answer, then `marquee status`.")
            return
        _answer(settings, airflow, run_id, approve)
        follower.wait()


def _promotion(settings: Settings, airflow: Airflow, partition: str) -> str:
    """The candidate's run of `promote`; the scheduler makes it within seconds. One that broke before its answer is asked
    anew, one that broke after it goes on."""
    found = _wait_for(lambda: _newest(airflow, partition), f"Airflow opened no question for {partition}; see {airflow.address}/dags/promote")
    if found["state"] != "failed":
        return found["dag_run_id"]
    from ledger import open_ledger

    if open_ledger(settings).get(partition.rpartition(".")[0]).state == State.AWAITING_APPROVAL:
        return airflow.trigger("promote", {"logical_date": None, "partition_key": partition})["dag_run_id"]
    airflow.clear_run("promote", found["dag_run_id"], only_failed=True)
    return found["dag_run_id"]


def _newest(airflow: Airflow, partition: str) -> dict | None:
    return next((run for run in airflow.runs("promote") if run["partition_key"] == partition), None)


def _wait_for(look: Callable[[], dict | None], otherwise: str, seconds: float = 120) -> dict:
    deadline = time.monotonic() + seconds
    while not (found := look()):
        if time.monotonic() > deadline:
            raise MarqueeError(f"{otherwise} ({seconds:.0f} s)")
        time.sleep(1)
    return found


def _answer(settings: Settings, airflow: Airflow, run_id: str, approve: str) -> None:
    """Answers as the demo approver, through the same API that the UI uses, and says so."""
    time.sleep(ANSWER_AFTER_SECONDS)
    approver = settings.approver_names()[0]
    reason = f"make demo, APPROVE={approve}: answered by the demo itself, no person has looked"
    password = home.airflow_secrets(settings)["passwords"][approver]
    with Airflow(airflow.address, approver, password) as person:
        person.answer("promote", run_id, "approve", ANSWERS[approve], {"reason": reason})
    console.print(f"[bold yellow]Answered “{ANSWERS[approve]}” as {approver}, through Airflow's API:[/] {reason}.\n"
                  "  With APPROVE=ask a person answers in the UI.")

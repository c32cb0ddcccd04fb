"""The way back, by hand."""

from datetime import timedelta
from typing import Any

from airflow.sdk import Param, dag

from dags.lib.defaults import START, task_defaults
from dags.lib.launcher import Marquee


def first_hour(result: dict[str, Any]) -> str:
    """One line a ten minutes, for the task's XCom."""
    rows = [", ".join(f"{name} {value}" for name, value in row.items()) for row in result["rows"]]
    return "\n".join([f"{result['release_id']} since {result['since']}", *(rows or ["no sample yet"])])


@dag(
    schedule=None,
    start_date=START,
    catchup=False,
    max_active_runs=1,
    is_paused_upon_creation=False,
    default_args=task_defaults(),
    params={
        "reason": Param(type="string", minLength=3, description="Why? It is kept with the release."),
        "to": Param("", type="string", description="Release id; empty: the one before the live one."),
    },
    tags=["roll_back", "marquee"],
    doc_md="""
### Why it exists
Makes the previous release live again, whole: towers, vectors, ranker, everything. Approvers may trigger it.

### What breaks
There is no previous release, or its files do not match its manifest: the last line says so, and live stays as it is.

### How to rerun
Clear the task: where this run has moved the pointer already it finds that and changes nothing. A new run goes back one
release more. `marquee release list` shows states.
""",
)
def roll_back() -> None:
    # side by side: an incident waits for no figure
    Marquee(task_id="figures", arguments=["release", "figures", "--json"], returns=first_hour, retries=0,
            execution_timeout=timedelta(seconds=15), on_failure_callback=None,
            doc_md="**The first hour of the release that is left**: requests, errors, degraded answers, latency (*XCom*).")
    Marquee(
        task_id="roll_back",
        arguments=["release", "rollback", "--reason", "{{ params.reason }}", "--actor", "{{ dag_run.triggering_user_name or 'airflow' }}",
                   "--run-id", "{{ run_id }}", "{{ '--to' if params.to else '' }}", "{{ params.to }}"],
        returns="release_id",
        doc_md="**Moves the pointer back**, in the same two phases as a swap.",
    )


roll_back()

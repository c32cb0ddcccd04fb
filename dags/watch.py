"""What no task of its own would notice: silence, lateness, and what was killed before it could speak."""

from datetime import timedelta
from typing import Any

from airflow.sdk import dag

from contracts.settings import load
from dags.lib.defaults import START, task_defaults
from dags.lib.launcher import Marquee
from dags.lib.notifications import tell


def told(result: dict[str, Any]) -> str:
    """Sends what was found, each thing once, and says how many were new."""
    new = sum(tell(load(), finding.pop("key"), finding) for finding in result["findings"])
    return f"{new} new of {len(result['findings'])}"


@dag(
    schedule="*/2 * * * *",
    start_date=START,
    catchup=False,
    max_active_runs=1,
    is_paused_upon_creation=False,
    default_args=task_defaults(retries=0),
    dagrun_timeout=timedelta(minutes=5),
    tags=["watch", "marquee"],
    doc_md="""
### Why it exists
Tells people, each thing once: half of a question's time is gone, a question expired or was rejected while `record` was
killed (and closes it), a night still runs at MARQUEE_NIGHT_DUE, launches are 15 minutes behind, a release was rolled back,
a replica serves another release than the live one.
Keeps samples of the API's figures for `marquee release figures`.

### What breaks
Nothing depends on it. Red: the ledger or Airflow's API did not answer; the last line says which.

### How to rerun
Nothing to do: the next run looks again. `marquee watch` does the same by hand, without telling anybody.
""",
)
def watch() -> None:
    Marquee(task_id="look", arguments=["watch"], returns=told,
            doc_md="**Looks at questions, nights, launches, rollbacks and replicas**, and tells what is new.")


watch()

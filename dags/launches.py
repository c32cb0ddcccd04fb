"""Eligibility and new titles, every minute."""

from datetime import timedelta

from airflow.sdk import dag

from dags.lib.defaults import START, task_defaults
from dags.lib.launcher import Marquee


@dag(
    schedule="* * * * *",
    start_date=START,
    catchup=False,
    max_active_runs=1,
    is_paused_upon_creation=False,
    default_args=task_defaults(retry_delay=timedelta(seconds=5)),
    dagrun_timeout=timedelta(minutes=15),
    tags=["launches", "marquee"],
    doc_md="""
### Why it exists
Titles, maturity and licence windows must be true whichever release is live. This appends what has landed to the
eligibility log that serving follows, and embeds titles that arrived or changed with the item tower of each release that
serves or may (its overlay), so that they are on shelves within minutes; it never waits for a night or for Spark.

### What breaks
A landed file that cannot be read: the last line names it. Until then the log stays as it was, and what is not known to
be licensed is not shown. A release whose files or item tower cannot be read: the last line names it; the log and the other
releases are up to date all the same, and only titles new to that release wait.

### How to rerun
Nothing to do: the next minute goes on where this one stopped. `marquee launches` does the same by hand.
""",
)
def launches() -> None:
    # looks all through the minute: a process start costs more than a look, and a closure has to be out within the minute
    Marquee(task_id="launches", arguments=["launches", "--for", "50", "--every", "10"], pool="launches", doc_md="**Appends new versions**, each once, in order, and embeds new titles.")


launches()

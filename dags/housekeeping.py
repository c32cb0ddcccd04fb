"""Once a week: what nobody needs any more."""

from airflow.sdk import dag

from dags.lib.defaults import START, task_defaults
from dags.lib.launcher import Marquee


@dag(
    schedule="0 5 * * 0",
    start_date=START,
    catchup=False,
    max_active_runs=1,
    is_paused_upon_creation=False,
    default_args=task_defaults(),
    tags=["housekeeping", "marquee"],
    doc_md="""
### Why it exists
Every night leaves a release: models, vectors, a collection. This deletes what serves of those that nobody can go back to
(`collect`), then what crashes left behind (`doctor`). Kept are the live release, the one before it, whatever is on its way
or still loaded by a replica, and the newest three that were live and three that were refused; manifest, gates and evidence
are kept for ever.

### What breaks
`doctor` fails while it has found something that a person has to look at; its last line says what. Nothing else waits for it.

### How to rerun
Clear the task; both go on where they stopped. By hand: `marquee release collect --dry-run` says what would go and why the
rest stays, `marquee doctor` what is left over.
""",
)
def housekeeping() -> None:
    collect = Marquee(task_id="collect", arguments=["release", "collect"], doc_md="**Deletes** collections and large files of old releases.")
    doctor = Marquee(task_id="doctor", arguments=["doctor", "--fix", "--json"], doc_md="**Finds and mends** what a crash left behind.")
    collect >> doctor


housekeeping()

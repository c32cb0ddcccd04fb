"""Once a week: what nobody needs any more."""

from airflow.sdk import dag

from dags.lib.defaults import SPARK, START, task_defaults
from dags.lib.launcher import Marquee


@dag(
    schedule="0 5 * * 0",
    # with a start in the past it also runs when a home first starts, where it finds nothing to do; without one, a machine
    # that is off on Sunday mornings would never come to its first run
    start_date=START,
    catchup=False,
    max_active_runs=1,
    is_paused_upon_creation=False,
    default_args=task_defaults(),
    tags=["housekeeping", "marquee"],
    doc_md="""
### Why it exists
Every night leaves a release: models, vectors, a collection. This deletes what serves of those that nobody can go back to
(`collect`), tidies the lake (`tidy`: small files, old snapshots, files that no snapshot knows), and mends what crashes
left behind (`doctor`). Kept are the live release, the one before it, whatever is on its way or still loaded by a replica,
and the newest three that were live and three that were refused; manifest, gates and evidence are kept for ever. In the lake
every snapshot stays that a tag `nightly_<ds>`, a night's record or a kept release names, and every one of the last three
days.

It also runs once when a home first starts, and finds nothing to do.

### What breaks
`tidy` fails where it cannot read a record that says what must stay; it then touches nothing.
`doctor` fails while it has found something that a person has to look at; its last line says what. Nothing waits for either.

### How to rerun
Clear the task; all go on where they stopped. By hand: `marquee release collect --dry-run` says what would go and why the
rest stays, `marquee doctor` what is left over.
""",
)
def housekeeping() -> None:
    collect = Marquee(task_id="collect", arguments=["release", "collect"], doc_md="**Deletes** collections and large files of old releases.")
    tidy = Marquee(task_id="tidy", arguments=["lake", "tidy"], **SPARK, doc_md="**Compacts and expires** in the lake; old tags read the same.")
    doctor = Marquee(task_id="doctor", arguments=["doctor", "--fix", "--json"], doc_md="**Finds and mends** what a crash left behind.")
    collect >> [tidy, doctor]


housekeeping()

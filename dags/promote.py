"""The question: a judged candidate, a person's answer, and the swap that follows it."""

from airflow.sdk import PartitionedAssetTimetable, chain, dag

from contracts.question import DAG, TASKS
from dags.lib.assets import CANDIDATE, release_of
from dags.lib.defaults import SETTINGS, START, task_defaults
from dags.lib.launcher import Marquee
from dags.lib.notifications import Notify
from dags.lib.question import Approval, asked

RELEASE = ["--release", "{{ release_of(dag_run.partition_key) }}"]
QUESTION = ["--dag-id", DAG, "--run-id", "{{ run_id }}", "--task-id", TASKS[0]]


@dag(
    schedule=PartitionedAssetTimetable(assets=CANDIDATE),
    start_date=START,
    catchup=False,
    max_active_runs=16,
    is_paused_upon_creation=False,
    default_args=task_defaults(),
    user_defined_macros={"release_of": release_of, "asked": asked},
    tags=["promote", "marquee"],
    doc_md="""
### Why it exists
One run per question. A candidate goes live only after a named approver said yes to exactly these bytes, compared with
exactly that live release. Silence is a rejection.

### What breaks
- **evidence** failed: the release changed, is blocked without a requested override, or its question was closed before.
- **approve** failed: nobody answered in time. The candidate is expired; live keeps serving. Tonight asks anew.
- **approve_second** (only where MARQUEE_APPROVALS_NEEDED=2): another person than the first has to answer, in the same time.
- **swap** failed: the answer is missing, not an approval, from somebody who may not (whoever started this run or its night
  by hand, or asked for the override, included), without a reason, too late, or for another text or other bytes; somebody
  else rejected the same evidence; or live has moved since. The last line says which, and so does the ledger. Live keeps
  serving.
- **probe** failed: the new release did not answer well from outside and was rolled back.
- **record** red: an expired or failed promotion, told truthfully. A rejection is green: the train did its job.

### How to rerun
Clear **swap** or **probe** with downstream: both go on where they stopped. Do not clear **approve**: Airflow keeps the
old text. To ask again, run the night again (`nightly`, clear **judge**). To take a promotion back: `roll_back`.
""",
)
def promote() -> None:
    evidence = Marquee(task_id="evidence", arguments=["release", "ask", *RELEASE], returns="release_id",
                       doc_md="**Checks the release against its manifest** and retires older questions.")
    questions = [Approval(
        task_id=task, after=TASKS[0] if task != TASKS[0] else None,
        doc_md="**Waits for an approver.** Open *Required Actions* of this run. No answer in time is a rejection.",
    ) for task in TASKS[:SETTINGS.approvals_needed]]
    swap = Marquee(task_id="swap", arguments=["release", "swap", *RELEASE, *QUESTION],
                   doc_md="**Checks the answer at its source**, then moves the pointer in two phases.")
    probe = Marquee(task_id="probe", arguments=["release", "probe", *RELEASE],
                    doc_md="**Asks the API from outside.** Confirms, or goes back to the release before.")
    record = Marquee(task_id="record", arguments=["release", "record", *RELEASE, *QUESTION], trigger_rule="all_done",
                     on_failure_callback=Notify("failed", unless_told=True),
                     doc_md="**The ledger agrees with what happened here.** Red where the promotion expired or failed.")

    chain(evidence, *questions, swap, probe, record)


promote()

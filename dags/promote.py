"""The question: a judged candidate, a person's answer, and the swap that follows it."""

import json
from datetime import timedelta

from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk import Param, PartitionedAssetTimetable, dag

from contracts.release import EVIDENCE, MANIFEST
from dags.lib.assets import CANDIDATE, release_of
from dags.lib.defaults import SETTINGS, START, task_defaults
from dags.lib.launcher import Marquee
from dags.lib.notifications import Notify

RELEASE = ["--release", "{{ release_of(dag_run.partition_key) }}"]
QUESTION = ["--dag-id", "promote", "--run-id", "{{ run_id }}", "--task-id", "approve"]


def card(release: str) -> str:
    """What the approver reads: the evidence card and the digests that the answer binds to."""
    folder = SETTINGS.releases / release
    manifest = json.loads((folder / MANIFEST).read_text())
    return "\n\n".join((
        (folder / EVIDENCE / "card.md").read_text().strip(),
        f"Payload digest `{manifest['payload']['payload_digest']}`  \nEvidence digest `{manifest['evidence_digest']}`  \n"
        f"Compared with {manifest['compared_with'] or 'nothing: the first release'}",
        f"Full report: `{folder / EVIDENCE / 'report.html'}`",
    ))


@dag(
    schedule=PartitionedAssetTimetable(assets=CANDIDATE),
    start_date=START,
    catchup=False,
    max_active_runs=16,
    is_paused_upon_creation=False,
    default_args=task_defaults(),
    user_defined_macros={"release_of": release_of, "card": card},
    tags=["promote", "marquee"],
    doc_md="""
### Why it exists
One run per question. A candidate goes live only after a named approver said yes to exactly these bytes, compared with
exactly that live release. Silence is a rejection.

### What breaks
- **approve** failed: nobody answered in time. The candidate is expired; live keeps serving. Tonight asks anew.
- **swap** failed: the answer is missing, not an approval, from somebody who may not, without a reason, or for other bytes;
  or live has moved since. The last line says which. Live keeps serving.
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
    approve = ApprovalOperator(
        task_id="approve",
        subject="Promote {{ ti.xcom_pull('evidence') }}?",
        body="{{ card(ti.xcom_pull('evidence')) }}",
        # no minLength: Airflow checks the default too. The UI asks for a text, and the swap refuses an empty one
        params={"reason": Param("", type="string", description="Why? It is kept with the release.")},
        assigned_users=[{"id": name, "name": name} for name in SETTINGS.approver_names()],
        response_timeout=timedelta(hours=SETTINGS.approval_hours),
        notifiers=[Notify("waits")],
        retries=0,
        doc_md="**Waits for an approver.** Open *Required Actions* of this run. No answer in time is a rejection.",
    )
    swap = Marquee(task_id="swap", arguments=["release", "swap", *RELEASE, *QUESTION],
                   doc_md="**Checks the answer at its source**, then moves the pointer in two phases.")
    probe = Marquee(task_id="probe", arguments=["release", "probe", *RELEASE],
                    doc_md="**Asks the API from outside.** Confirms, or goes back to the release before.")
    record = Marquee(task_id="record", arguments=["release", "record", *RELEASE, *QUESTION], trigger_rule="all_done",
                     doc_md="**The ledger agrees with what happened here.** Red where the promotion expired or failed.")

    evidence >> approve >> swap >> probe >> record


promote()

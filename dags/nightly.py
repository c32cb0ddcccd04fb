"""The night: from what has landed to a judged candidate."""

from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import CronDataIntervalTimetable, dag, task, task_group
from airflow.sdk.exceptions import AirflowFailException

from contracts import blocked
from contracts.errors import UsageError
from contracts.landing import find_interval
from dags.lib.assets import CANDIDATE
from dags.lib.defaults import SETTINGS, SPARK, START, task_defaults
from dags.lib.launcher import Marquee

NIGHT = ["--ds", "{{ ds }}"]
UNTIL = datetime.fromisoformat(SETTINGS.nightly_until).replace(tzinfo=UTC) if SETTINGS.nightly_until else None


def landed_folder(ds: str) -> str:
    """The landed interval that ends with the night; where there is none, the folder that should have been there."""
    try:
        return str(find_interval(SETTINGS.landing, ds)[1])
    except UsageError:
        return str(SETTINGS.landing / ds)


def passed(result: dict[str, Any]) -> str:
    """The candidate's partition key; a blocked one fails with the failed gates and the two ways on, and opens no question."""
    if result["verdict"] != "passed":
        raise AirflowFailException(blocked.said(result["release_id"], result["failed_gates"], result["never_overridden"]))
    return f"{result['release_id']}.{result['evaluation']}"


@dag(
    schedule=CronDataIntervalTimetable(SETTINGS.nightly_cron, timezone="UTC"),
    start_date=START,
    end_date=UNTIL,
    catchup=False,
    max_active_runs=1,
    default_args=task_defaults(),
    user_defined_macros={"landed_folder": landed_folder},
    dagrun_timeout=timedelta(hours=12),
    tags=["nightly", "marquee"],
    doc_md="""
### Why it exists
Turns the day that has landed (`ds`, the start of the data interval) into the lake's next state, a training set, and a
judged candidate release: newly trained, or an index refresh with live's models (`MARQUEE_RETRAIN`; **train.decide** says
which, and why). Its last task adds the candidate as a partition of the `candidate` asset; `promote` asks.

### What breaks
- **land.check**: the day has not landed, or is wrong. The last log line names file and field. Land it, clear the task.
- **ingest**, **warehouse**: an expectation or a dbt test failed. Nothing was published; yesterday's lake stands.
- **features.live_quality**: the live release's files are gone or do not load. Restore them, or roll back.
- **features.materialise**: online rows differ too much from what live was trained on. Yesterday's rows stay.
- **train.towers**, **index**, **ranker**: *begun with other inputs*: code, recipe or libraries changed since **train.begin**.
  Clear **train.begin** with downstream: what is there now is built under an id of its own.
- **judge.judge**: *blocked* names the gates. Nothing is wrong with the night itself: the candidate is not good enough.

Whatever breaks, the live release keeps serving.

### How to rerun
Clear the failed task (downstream included): every task finds its own earlier work, and a rerun ends with the same
payload digest. The whole day: clear the run. An earlier day's data: `airflow backfill create --dag-id nightly
--from-date 2026-03-28 --to-date 2026-03-30T23:59`; a backfilled day writes lake, features and training sets only
(docs/operating/backfills.md). Missed days need nothing: the next night ingests them in order and trains once, on the newest.
""",
)
def nightly() -> None:
    @task_group
    def land() -> None:
        """What has landed is complete and sound; new titles and licences are known at once."""
        check = Marquee(task_id="check", arguments=["land", "check", "{{ landed_folder(ds) }}", "--json"],
                        doc_md="**Is the day there?** Red: the day did not land or is malformed; see the last line.")
        launches = Marquee(task_id="launches", arguments=["launches", "--log-only"], pool="launches",
                           doc_md="**Eligibility log up to date.** Safe at any time; also runs every minute by itself.")
        check >> launches

    ingest = Marquee(task_id="ingest", arguments=["ingest", *NIGHT], **SPARK,
                     doc_md="**Landing → lake**, older missed days first. Bad records: quarantine table, with reasons. Nothing "
                            "is published before the audit passes, so a rerun starts clean.")
    warehouse = Marquee(task_id="warehouse", arguments=["warehouse", *NIGHT], **SPARK,
                        doc_md="**dbt build and tests, then the tag** `nightly_<ds>`. Red: the failing model or test is in the log.")

    @task_group
    def features() -> None:
        """Point-in-time training rows; online rows behind their guard."""
        examples = Marquee(task_id="examples", arguments=["examples", *NIGHT], **SPARK,
                           doc_md="**Training rows at the tag**, each feature as it was known before its label.")

        @task.short_circuit(doc_md="**Skips the rest of a backfilled day**: no online rows, no candidate.", retries=0)
        def tonight(dag_run: Any = None) -> bool:
            return dag_run.run_type != "backfill"

        quality = Marquee(task_id="live_quality", arguments=["live-quality", *NIGHT, "--json"],
                          doc_md="**What is live, on the day that landed**, before anything learns from it and while the online rows "
                                 "are those that members had. `marquee live-quality` shows the nights. Red: live's files are gone, or "
                                 "its shadow server did not come up; see the last line.")
        materialise = Marquee(task_id="materialise", arguments=["materialise", *NIGHT], **SPARK,
                              doc_md="**Online rows**, after comparison with what live was trained on. Red: yesterday's rows stay.")
        examples >> tonight() >> quality >> materialise

    @task_group
    def train() -> str:
        """One release, built in order. The id is known first, so that a rerun finds its own work."""
        decide = Marquee(task_id="decide", arguments=["release", "decide", *NIGHT], returns="said",
                         doc_md="**Train, or refresh the index with live's models** (`MARQUEE_RETRAIN`). Its log and its return value "
                                "say which, and why. Another answer: `marquee release decide --ds DAY --action retrain --reason …`, "
                                "then clear **begin** with downstream.")
        begin = Marquee(task_id="begin", arguments=["release", "begin", *NIGHT], returns="release_id",
                        doc_md="**Names the candidate** from its inputs: data, code, recipe, seed; for a refresh also the "
                               "release whose models it keeps.")
        release = ["--release", "{{ ti.xcom_pull('train.begin') }}"]
        towers = Marquee(task_id="towers", arguments=["towers", *release], doc_md="**Two towers**, to ONNX. Curves are in MLflow. "
                                                                                          "A refresh keeps live's.")
        index = Marquee(task_id="index", arguments=["index", *release],
                        doc_md="**Embeds every title, loads the collection.** Red with *connection*: is Milvus up (`marquee status`)?")
        ranker = Marquee(task_id="ranker", arguments=["ranker", *release],
                         doc_md="**Ranker**, on days that the towers have not seen. A refresh keeps live's.")
        seal = Marquee(task_id="seal", arguments=["release", "seal", *release], returns="release_id",
                       doc_md="**Payload digest**: from here the release does not change.")
        decide >> begin >> towers >> index >> ranker >> seal

    @task_group
    def judge() -> None:
        """Better than popularity and retrieval order, not worse than live: or no question."""
        verdict = Marquee(task_id="judge", arguments=["judge", "--release", "{{ ti.xcom_pull('train.seal') }}"], returns=passed,
                          doc_md="**Gates**, on the night's own day, through a shadow server. *Blocked* names the gates that failed; "
                                 "`marquee release show <id>` has the figures.")

        @task(outlets=[CANDIDATE], doc_md="**Hands the candidate to `promote`**, which asks the approvers.")
        def offer(candidate: str, outlet_events: Any = None) -> None:
            outlet_events[CANDIDATE].add_partitions(candidate)

        offered = offer(verdict.output)
        if SETTINGS.unattended_refresh:
            refresh = Marquee(task_id="refresh", arguments=["release", "refresh", "--release", "{{ ti.xcom_pull('train.seal') }}"],
                              returns="outcome",
                              doc_md="**An index refresh goes live without a person** (`MARQUEE_UNATTENDED_REFRESH`). *ask*: the log says "
                                     "why a person decides. Red: the swap or the probe failed; live is as it was.")

            @task.short_circuit(doc_md="**Skips the question** where the refresh is live already.", retries=0)
            def undecided(outcome: str) -> bool:
                return outcome == "ask"

            verdict >> refresh
            undecided(refresh.output) >> offered

    land() >> ingest >> warehouse >> features() >> train() >> judge()


nightly()

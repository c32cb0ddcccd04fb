"""`marquee`: every job as a command, in data-flow order. Thin: parses, loads settings and recipe, calls one function,
prints its result as one line of JSON.

Imports of the steps stand inside the commands, so that `marquee --help` does not wait for torch or Spark.
"""

import sys
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from contracts.errors import MarqueeError, UsageError
from contracts.settings import Settings, load
from jobs import runtime

if TYPE_CHECKING:
    from jobs.recipes import Recipe

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False,
                  help="Marquee: the nightly release train of a streaming service's recommender.")
land_app = typer.Typer(no_args_is_help=True, help="Bring data in: the landing format is the only way.")
release_app = typer.Typer(no_args_is_help=True, help="Releases: list, show, build, swap, roll back.")
lake_app = typer.Typer(no_args_is_help=True, help="Housekeeping of the lake.")
app.add_typer(land_app, name="land")
app.add_typer(lake_app, name="lake")
app.add_typer(release_app, name="release")


def _day(text: str) -> str:
    """A day is written in one way: it names folders, tags and releases."""
    try:
        if str(date.fromisoformat(text)) == text:
            return text
    except ValueError:
        pass
    raise UsageError(f"{text!r} is not a day; write YYYY-MM-DD")


def _folder(text: str) -> Path:
    """Nothing, as of a variable that is not set, is not the folder that one stands in."""
    if not text:
        raise UsageError("FOLDER is empty; name a folder")
    return Path(text)


Ds = Annotated[str, typer.Option("--ds", parser=_day, metavar="DAY", help="the night: last day of its landed interval, YYYY-MM-DD")]
Release = Annotated[str, typer.Option("--release", help="release id")]
ReleaseId = Annotated[str, typer.Argument(help="release id; `marquee release list` has them")]
Json = Annotated[bool, typer.Option("--json", help="one line of JSON for machines")]


# --- land ---------------------------------------------------------------------------------------------------------

@land_app.command()
def world(
    recipe: Annotated[str | None, typer.Option(help="nano, demo or large; default: the home's, or demo")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="default: the home's, or 7")] = None,
    next_day: Annotated[bool, typer.Option("--next", help="land the day after the last landed one, shown by the live release")] = False,
) -> None:
    """Simulate a streaming service: history and the next day, or one more day."""
    from jobs.sources import world as step
    runtime.emit(step.land(load(), recipe, seed, next_day))


@land_app.command()
def movielens(
    data: Annotated[Path, typer.Argument(help="folder with ratings.dat … (ml-1m) or ratings.csv … (ml-latest-small)")],
    as_of: Annotated[str | None, typer.Option(parser=_day, metavar="DAY", help="today, YYYY-MM-DD; default: 95th percentile of events")] = None,
    next_day: Annotated[bool, typer.Option("--next", help="land the span after the last landed one")] = False,
) -> None:
    """Land MovieLens in GroupLens' own layout."""
    from jobs.sources import movielens as step
    runtime.emit(step.land(load(), data, as_of, next_day))


@land_app.command()
def check(
    folder: Annotated[Path, typer.Argument(parser=_folder, metavar="FOLDER", help="a landing root, or the folder of one landed interval")],
    as_json: Json = False,
) -> None:
    """Say in plain words what is wrong or missing in a landed folder."""
    from jobs.sources import check as step
    report = step.check(folder)
    print(report.as_json() if as_json else report.as_text())
    raise typer.Exit(0 if report.ok else 2)


# --- lake ---------------------------------------------------------------------------------------------------------

@app.command()
def ingest(ds: Ds) -> None:
    """Landing to the lake: validate, quarantine, deduplicate, audit, publish."""
    from jobs.lake import ingest as step
    runtime.emit(step.run(load(), ds))


@app.command()
def warehouse(ds: Ds) -> None:
    """Build and test the dbt models, then tag the marts `nightly_<ds>`."""
    from jobs.lake import warehouse as step
    runtime.emit(step.run(load(), ds))


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []})
def dbt(context: typer.Context) -> None:
    """Any dbt command, in a namespace of your own beside the live lake: `marquee dbt build --select …`."""
    from jobs.lake import dbt_session as step
    raise typer.Exit(step.run_for_a_person(load(), context.args))


@lake_app.command()
def tidy(
    keep_days: Annotated[float, typer.Option(min=1, help="younger snapshots stay, whatever names them")] = 3.0,
) -> None:
    """Compact small files, expire snapshots that no tag, night or kept release names, remove files that no snapshot knows."""
    from jobs.lake import tidy as step
    runtime.emit(step.run(load(), keep_days))


@app.command()
def examples(ds: Ds) -> None:
    """Point-in-time training rows of the night, from Feast's offline store at the tag."""
    from jobs.examples import training as step
    runtime.emit(step.run(load(), ds))


@app.command()
def materialise(ds: Ds) -> None:
    """Write the online rows, after comparison with the live release's training distributions."""
    from jobs.examples import online as step
    runtime.emit(step.run(load(), ds))


@app.command("live-quality")
def live_quality(
    ds: Annotated[str | None, typer.Option("--ds", parser=_day, metavar="DAY", help="the night that has landed; without it: every night that was measured")] = None,
    as_json: Json = False,
) -> None:
    """Score what is live on the day that landed, before anything learns from it; kept in the ledger, plotted."""
    import json

    from jobs.evaluation import live_quality as step
    settings = load()
    found = step.run(settings, ds) if ds else {"nights": step.history(settings)}
    if as_json:
        print(json.dumps(found, default=str, sort_keys=True))
        return
    nights = [n for n in step.history(settings) if ds in (None, n["ds"])]
    print(found.get("skipped") or step.as_text(nights))


# --- build a release ----------------------------------------------------------------------------------------------

@release_app.command()
def decide(
    ds: Ds,
    action: Annotated[str | None, typer.Option(help="retrain or refresh, in place of the policy's answer; needs --reason")] = None,
    reason: Annotated[str, typer.Option(help="why; with --action")] = "",
    actor: Annotated[str, typer.Option(help="who; with --action")] = "cli",
) -> None:
    """Whether the night trains models anew or refreshes the index with live's (MARQUEE_RETRAIN), and why."""
    from jobs.recipes import recipe
    from jobs.release import retraining as step
    settings = load()
    runtime.emit(step.run(settings, ds, recipe(settings.recipe), action, reason, actor))


@release_app.command()
def begin(ds: Ds) -> None:
    """Name tonight's candidate from its inputs and enter it in the ledger; finds itself on a rerun."""
    from jobs.recipes import recipe
    from jobs.release import begin as step
    settings = load()
    runtime.emit(step.run(settings, ds, recipe(settings.recipe)))


def _as_begun(release: str) -> tuple[Settings, "Recipe"]:
    """Settings and recipe of a build step; UsageError where they, or the code, are not those that named the release."""
    from jobs.recipes import recipe
    from jobs.release import unchanged
    settings = load()
    whole = recipe(settings.recipe)
    unchanged.require(settings, release, whole)
    return settings, whole


@app.command()
def towers(
    release: Release,
    force: Annotated[bool, typer.Option("--force", help="train again, even where both towers are there already")] = False,
) -> None:
    """Train the two towers; ONNX with parity checks."""
    from jobs.towers import train as step
    settings, whole = _as_begun(release)
    runtime.emit(step.run(settings, release, whole.towers, force))


@app.command()
def index(
    release: Release,
    files_only: Annotated[bool, typer.Option("--files-only", help="write the files, leave Milvus alone")] = False,
) -> None:
    """Embed every title, write what serving reads, load the Milvus collection, check it."""
    from jobs.index import build as step
    settings, whole = _as_begun(release)
    runtime.emit(step.run(settings, release, whole.index, files_only))


@app.command()
def ranker(release: Release) -> None:
    """Train the ranker on the block that retriever and counts have not seen; validation picks it or the blend."""
    from jobs.ranker import train as step
    settings, whole = _as_begun(release)
    runtime.emit(step.run(settings, release, whole.ranker))


@release_app.command()
def seal(release: Release) -> None:
    """Write payload.json with the payload digest: the release is built."""
    from jobs.release import seal as step
    runtime.emit(step.run(load(), release))


@app.command()
def judge(release: Release) -> None:
    """Judge the candidate on the night's own day against live, popularity and retrieval order; writes the manifest."""
    from jobs.evaluation import judge as step
    from jobs.recipes import recipe
    settings = load()
    runtime.emit(step.run(settings, release, recipe(settings.recipe).judge))


# --- promote ------------------------------------------------------------------------------------------------------

@release_app.command()
def ask(release: Release) -> None:
    """Verify the release, move it to awaiting approval, supersede older questions, print the question."""
    from jobs.release import promote as step
    runtime.emit(step.ask(load(), release))


@release_app.command("request-override")
def request_override(
    release: Annotated[str, typer.Argument(help="a candidate that its gates blocked")],
    gate: Annotated[list[str], typer.Option("--gate", help="a gate that failed; name each of them")],
    reason: Annotated[str, typer.Option(help="why; the approver reads it first, and it is kept for ever")],
    actor: Annotated[str, typer.Option(help="your Airflow user name; whoever asks cannot approve")],
) -> None:
    """Ask the approvers to let a blocked candidate through. Safety gates are never overridden."""
    from jobs.release import promote as step
    runtime.emit(step.request_override(load(), release, gate, reason, actor))


@release_app.command()
def swap(
    release: Release,
    dag_id: Annotated[str, typer.Option(help="the DAG of the question")],
    run_id: Annotated[str, typer.Option(help="the run of the question")],
    task_id: Annotated[str, typer.Option(help="the task of the question")],
) -> None:
    """Check the approver's answer at its source and move the live pointer, in two phases."""
    from jobs.release import promote as step
    runtime.emit(step.swap(load(), release, step.QuestionAddress(dag_id, run_id, task_id)))


@release_app.command()
def probe(release: Release) -> None:
    """Ask the API from outside; make the release live, or roll it back."""
    from jobs.release import promote as step
    runtime.emit(step.probe(load(), release))


@release_app.command()
def record(
    release: Release,
    dag_id: Annotated[str, typer.Option(help="the DAG of the question")],
    run_id: Annotated[str, typer.Option(help="the run of the question")],
    task_id: Annotated[str, typer.Option(help="the task of the question")],
) -> None:
    """Reconcile the ledger with Airflow's own answer; fails on an expired or failed promotion."""
    from jobs.release import promote as step
    runtime.emit(step.record(load(), release, step.QuestionAddress(dag_id, run_id, task_id)))


@release_app.command()
def refresh(release: Release) -> None:
    """Make an index refresh live without a person, where MARQUEE_UNATTENDED_REFRESH says so; else say why one is asked."""
    from jobs.release import unattended as step
    runtime.emit(step.run(load(), release))


@release_app.command("rollback")
def rollback(
    reason: Annotated[str, typer.Option(help="why")],
    to: Annotated[str | None, typer.Option(help="release id; default: the previous one")] = None,
    actor: Annotated[str, typer.Option(help="who")] = "cli",
    run_id: Annotated[str | None, typer.Option(help="what a retry is known by; default: every command is a new roll-back")] = None,
) -> None:
    """Make the previous release live again, whole."""
    from jobs.release import promote as step
    runtime.emit(step.rollback(load(), to, reason, actor, run_id))


@release_app.command()
def figures(as_json: Json = False) -> None:
    """The first hour of the live release, from the API's own figures: requests, errors, degraded answers, latency."""
    from jobs.release import figures as step
    found = step.show(load())
    print(runtime.line(found) if as_json else step.table(found))


@release_app.command("list")
def list_releases(as_json: Json = False) -> None:
    """Every release in the ledger with its state."""
    from jobs.release import inspect as step
    print(step.list_releases(load(), as_json))


@release_app.command()
def show(release: ReleaseId, as_json: Json = False) -> None:
    """One release: digests, gates, provenance, and who did what when and why."""
    from jobs.release import inspect as step
    print(step.show(load(), release, as_json))


@release_app.command()
def diff(
    one: Annotated[str, typer.Argument(help="release id")],
    other: Annotated[str, typer.Argument(help="release id, to compare with it")],
    as_json: Json = False,
) -> None:
    """What differs between two releases: data, code, recipe, files, figures."""
    from jobs.release import inspect as step
    print(step.diff(load(), one, other, as_json))


@release_app.command()
def rebuild(
    release: ReleaseId,
    keep: Annotated[bool, typer.Option("--keep", help="leave the rebuilt files in place")] = False,
    as_json: Json = False,
) -> None:
    """Build a release again from its tag, aside: the same payload digest, which files differ, or why it cannot be."""
    import json

    from jobs.release import rebuild as step
    found = step.run(load(), release, keep)
    print(json.dumps(found) if as_json else step.as_text(found))
    raise typer.Exit(0 if found["outcome"] == step.SAME else 1)


@release_app.command()
def trace(
    name: Annotated[str, typer.Argument(help="a slate id (what was shown, by which release), or a release id (its slates)")],
    as_json: Json = False,
) -> None:
    """From a slate to its release, models, data, gates and approver; from a release to the slates that it computed."""
    from jobs.release import trace as step
    print(step.run(load(), name, as_json))


@release_app.command()
def collect(
    keep: Annotated[int, typer.Option(min=0, help="so many that were live, and so many that were refused, stay beside those in use")] = 3,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="say what would go and why the rest stays")] = False,
) -> None:
    """Delete collections and large files of releases that nobody needs; manifest and evidence stay."""
    from jobs.release import collect as step
    runtime.emit(step.run(load(), keep, dry_run))


@app.command()
def doctor(
    fix: Annotated[bool, typer.Option("--fix", help="remove leftovers, rebuild lost collections, resolve an overdue probe")] = False,
    as_json: Json = False,
) -> None:
    """Find what a crash left behind, and say what it is; exit code 1 while something is left to do."""
    from jobs.index import rebuild
    from jobs.release import doctor as step
    found = step.run(load(), fix, rebuild.run)
    left = [f"{one.kind} {one.where}" for one in found if not one.fixed]
    print(runtime.line({"findings": [one.as_json() for one in found], "left": len(left)}) if as_json else step.as_text(found))
    if left:
        raise MarqueeError(f"{len(left)} left to do: {', '.join(left[:3])}{' …' if left[3:] else ''}")


@app.command()
def launches(
    log_only: Annotated[bool, typer.Option("--log-only", help="the eligibility log, not the overlays")] = False,
    seconds: Annotated[float, typer.Option("--for", help="look again and again for so many seconds")] = 0.0,
    every: Annotated[float, typer.Option(help="seconds from look to look")] = 10.0,
) -> None:
    """Append landed title and licence versions to the eligibility log, and new and changed titles to the overlays."""
    from jobs.release import launches as step
    runtime.emit(step.run(load(), log_only) if log_only or not seconds else step.watch(load(), seconds, every))


@app.command()
def watch() -> None:
    """Say what somebody should be told of, and close questions whose `record` was killed; the DAG `watch` tells it."""
    from jobs.release import watch as step
    runtime.emit(step.run(load()))


# --- serve and look -----------------------------------------------------------------------------------------------

@app.command()
def serve(
    port: Annotated[int | None, typer.Option(help="default: MARQUEE_SERVING_PORT")] = None,
    shadow: Annotated[bool, typer.Option(help="serve one given release to the judge, on loopback, with as_of")] = False,
    release: Annotated[str | None, typer.Option(help="release id (shadow only)")] = None,
    member_state: Annotated[Path | None, typer.Option(help="folder with profiles.parquet and plays.parquet (shadow only)")] = None,
) -> None:
    """Serve the API."""
    import os
    args = [sys.executable, "-m", "serving", "--port", str(port or load().serving_port)]
    if shadow:
        if not release or not member_state:
            raise UsageError("--shadow needs --release and --member-state")
        args += ["--shadow", "--release", release, "--member-state", str(member_state)]
    os.execv(sys.executable, args)


@app.command()
def token(
    profile: Annotated[str, typer.Option("--profile", help="profile id")],
    hours: Annotated[float, typer.Option(help="valid for", min=0.0)] = 12.0,
) -> None:
    """A bearer token for one profile's household, for trying the API."""
    from local import tokens
    print(tokens.for_profile(load(), profile, hours))


@app.command()
def up(as_json: Json = False) -> None:
    """Start the embedded services: Milvus Lite, Airflow, serving."""
    from local import services
    services.up(load(), as_json)


@app.command()
def down() -> None:
    """Stop what `up` started."""
    from local import services
    services.down(load())


@app.command()
def status(as_json: Json = False) -> None:
    """Addresses, whether each answers, the live release, questions that wait."""
    from local import status as step
    print(step.status(load(), as_json))


@app.command()
def demo(
    source: Annotated[str | None, typer.Option(help="world or movielens; default: the home's, or world")] = None,
    data: Annotated[Path | None, typer.Option(help="MovieLens folder; default: the home's")] = None,
    recipe: Annotated[str | None, typer.Option(help="nano or demo; MovieLens has its own; default: the home's, or demo")] = None,
    approve: Annotated[str, typer.Option(help="yes: answered as the demo approver; ask: a person answers in the UI; no: rejected")] = "yes",
) -> None:
    """One night through the real scheduler, from landing to the live shelf; again: the next night."""
    from local import demo as step
    step.run(load(), source, data, recipe, approve)


def main() -> None:
    runtime.configure_logging()
    try:
        app()
    except UsageError as error:
        print(f"marquee: {error}", file=sys.stderr)
        sys.exit(2)
    except MarqueeError as error:
        print(f"marquee: failed: {error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()

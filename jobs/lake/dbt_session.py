"""dbt in this process, inside this process's Spark session: one JVM for a whole build.

The night builds into the live namespaces; a person's commands into one of their own, `dev_<user>`, reading the live
raw layer and, for models that they do not build themselves, the live marts.
"""

import getpass
import json
import logging
import os
import re
import shutil
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from contracts.errors import MarqueeError, UsageError
from contracts.landing import Interval
from contracts.settings import REPOSITORY, Settings
from jobs.lake import raw, read
from jobs.lake.session import spark_session

PROJECT = REPOSITORY / "dbt"
SNAPSHOT_DAYS, SNAPSHOT_BLOCKS = 90, 6
"""Daily snapshots reach so many days, or blocks of a night's length, back from the end of the history. Training reads
title counts up to four blocks old (contracts.split); twenty years of MovieLens would be 80 million rows."""

_BUILDS_MODELS = ("build", "run", "test", "compile", "show", "clone")
_NEEDS_SESSION = (*_BUILDS_MODELS, "docs", "run-operation", "snapshot", "seed", "source")


@dataclass(frozen=True)
class DbtResult:
    """What a dbt command did: nodes by status, and a line for each that failed."""

    success: bool
    failures: list[str]
    statuses: dict[str, int]


def variables(ds: str, ingests: list[raw.Ingest]) -> dict[str, str]:
    """What every build must be told: the night, and what the lake's first intervals decide for good. `ingests` are
    those up to the night, in order."""
    history = Interval(ingests[0].first, ingests[0].last)
    night = next((Interval(one.first, one.last) for one in ingests if one.first > history.last), history)
    horizon = timedelta(days=max(SNAPSHOT_DAYS, SNAPSHOT_BLOCKS * night.days))
    return {
        "ds": ds,
        "first_day": str(max(history.first, history.last + timedelta(days=1) - horizon)),
        "grain": raw.partition_grain(history),
    }


def build_live(settings: Settings, variables: dict[str, Any], full_refresh: bool) -> DbtResult:
    """`dbt build` into the live namespaces, without unit tests: they test code, not the night's data."""
    spark_session(settings)
    arguments = ["build", "--exclude-resource-type", "unit_test", "--vars", json.dumps(variables), *_folders(settings, "live")]
    if full_refresh:
        arguments.append("--full-refresh")
    with _environment("live", "marts"):
        outcome = _invoke([*arguments, "--quiet", "--log-level", "none"])
    if outcome.exception:
        raise MarqueeError(f"dbt build could not run: {outcome.exception}") from outcome.exception
    return _read_result(outcome)


def keep_manifest(settings: Settings) -> None:
    """After a good night: the state that a person's unbuilt models defer to."""
    source = settings.work / "dbt" / "live" / "target" / "manifest.json"
    folder = settings.lake / "dbt"
    folder.mkdir(parents=True, exist_ok=True)
    aside = folder / f".manifest.{os.getpid()}"
    shutil.copyfile(source, aside)
    aside.replace(folder / "manifest.json")


def run_for_a_person(settings: Settings, arguments: list[str]) -> int:
    """Any dbt command in a namespace of one's own; returns dbt's exit code (0 done, 1 failed, 2 wrong use).

    Reads the live raw layer as it is, never writes to it or to the live marts.
    """
    command = arguments[0] if arguments else "--help"
    schema = "dev_" + re.sub(r"\W", "_", getpass.getuser().lower())
    extra: list[str] = []
    if command in _NEEDS_SESSION:
        ingests = raw.read_ingests(read.catalog(settings))
        if not ingests:
            raise UsageError("the lake is empty: land and ingest a day first")
        session = spark_session(settings)
        session.sql(f"create namespace if not exists {schema}")
        if "--vars" not in arguments:
            extra += ["--vars", json.dumps(variables(str(ingests[-1].last), ingests))]
        if command in _BUILDS_MODELS and "--state" not in arguments and (settings.lake / "dbt" / "manifest.json").exists():
            extra += ["--defer", "--state", str(settings.lake / "dbt")]
    if not command.startswith("-"):
        extra += _folders(settings, "dev")
    with _environment("dev", schema):
        outcome = _invoke([*arguments, *extra])
    if outcome.exception is not None:
        logging.getLogger("marquee.dbt").error("%s", outcome.exception)
        return 2
    return 0 if outcome.success else 1


def _invoke(arguments: list[str]):
    from dbt.cli.main import dbtRunner

    for noisy in ("py4j", "sqlglot"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    return dbtRunner().invoke(arguments)


def _folders(settings: Settings, target: str) -> list[str]:
    work = settings.work / "dbt" / target
    return ["--project-dir", str(PROJECT), "--profiles-dir", str(PROJECT), "--target", target,
            "--target-path", str(work / "target"), "--log-path", str(work / "logs")]


@contextmanager
def _environment(target: str, schema: str):
    wanted = {"MARQUEE_DBT_TARGET": target, "MARQUEE_DBT_SCHEMA": schema, "DBT_SEND_ANONYMOUS_USAGE_STATS": "false"}
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name)
            else:
                os.environ[name] = value


def _read_result(outcome) -> DbtResult:
    statuses: dict[str, int] = {}
    failures = []
    for result in getattr(outcome.result, "results", []):
        status = str(result.status)
        statuses[status] = statuses.get(status, 0) + 1
        if status in ("error", "fail", "runtime error"):
            message = " ".join((result.message or "").split())[:400]
            failures.append(f"{result.node.resource_type} {result.node.name}: {message}")
    return DbtResult(bool(outcome.success), failures, statuses)

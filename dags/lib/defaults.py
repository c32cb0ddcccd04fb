"""What every DAG starts from."""

from datetime import UTC, datetime, timedelta
from typing import Any

from contracts.settings import Settings, load
from dags.lib.notifications import Notify

SETTINGS: Settings = load()

START = datetime(1990, 1, 1, tzinfo=UTC)
"""Before any source's first day: a backfill may reach as far back as the data does."""

SPARK = {"pool": "spark"}
"""Tasks that write the lake or start a JVM: one at a time."""


def task_defaults(**more: Any) -> dict[str, Any]:
    """A retry is always safe: every command is idempotent. A person is told only when the retries are used up."""
    return {
        "owner": "marquee",
        "retries": 1,
        "retry_delay": timedelta(seconds=10),
        "on_failure_callback": Notify("failed"),
    } | more

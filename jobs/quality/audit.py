"""Great Expectations over all rows of an audit branch: what stands between the audit branch and main.

Validation has set single bad records aside before; this judges the table as a whole, and that validation did its work.
It reads every row: a sample of 200 thousand missed planted nulls (FACTS). `success` is checked by hand, since Great
Expectations never raises, and a check that could not run is told from one that ran and failed.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from contracts.errors import MarqueeError
from contracts.landing import FEW, MARKET, MOST_QUARANTINED, TABLES, Interval
from jobs.lake.validate import PRIVACY_REQUESTS, interval_end

if TYPE_CHECKING:
    import pandas as pd
    from great_expectations.core import ExpectationSuite

MOST_LATE = 0.5
LATE = timedelta(days=1)
"""A night of which most was received over a day after it happened is a redelivery, not a night."""


@dataclass(frozen=True)
class Finding:
    """One expectation that did not hold; `broken` means that it could not be evaluated at all."""

    table: str
    expectation: str
    column: str
    detail: str
    broken: bool

    def __str__(self) -> str:
        what = "could not be evaluated" if self.broken else "does not hold"
        return f"{self.table}.{self.column or '*'}: {self.expectation} {what} ({self.detail})"


def warm_up() -> None:
    """Imports Great Expectations (up to 10 s), so that a caller can do it beside other work."""
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    import logging

    import great_expectations

    for name in ("great_expectations", "great_expectations.data_context.types.base"):  # the second sets itself to INFO
        logging.getLogger(name).setLevel(logging.WARNING)
    _ = great_expectations


def audited_columns(table: str) -> list[str]:
    """The columns that the suite of a table reads: text and lists that nothing is expected of stay on disk."""
    return [c.name for c in TABLES[table].columns
            if c.required or c.low is not None or c.name in ("received_at", "market")]


def audit(tables: Mapping[str, pa.Table], counts: Mapping[str, Mapping[str, int]], interval: Interval) -> int:
    """Judges all rows of the branches, and the sums; returns how many expectations held.

    `tables` has the audited columns of every row that would be published; `counts` is per table landed, published,
    quarantined and duplicates. Raises MarqueeError that names every table, column and expectation that does not hold.
    """
    warm_up()
    suites = [(name, _frame(rows), _suite(name, rows, interval)) for name, rows in tables.items()]
    suites.append(("ingest", _counts_frame(counts), _counts_suite()))
    held, findings = 0, []
    for name, frame, suite in suites:
        ok, bad = _judge(name, frame, suite)
        held += ok
        findings += [replace(one, detail=f"{one.detail}; {_shares(counts)}") for one in bad] if name == "ingest" else bad
    if findings:
        broken = "; some expectations could not be evaluated" if any(f.broken for f in findings) else ""
        raise MarqueeError(f"{interval.name}: the audit refused to publish{broken}: " + "; ".join(map(str, findings)))
    return held


def _frame(rows: pa.Table) -> "pd.DataFrame":
    lateness = pc.subtract(pc.cast(rows["received_at"], pa.int64()), pc.cast(rows["event_time"], pa.int64()))
    late = pc.cast(pc.greater(lateness, round(LATE.total_seconds() * 1e6)), pa.float64())
    return rows.append_column("is_late", late).to_pandas(split_blocks=True, date_as_object=False)


def _suite(name: str, rows: pa.Table, interval: Interval) -> "ExpectationSuite":
    import great_expectations as gx
    import great_expectations.expectations as gxe

    end = interval_end(interval)
    expectations = [
        gxe.ExpectTableRowCountToBeBetween(min_value=1),
        gxe.ExpectColumnValuesToBeUnique(column="event_id"),
        gxe.ExpectColumnValuesToNotBeNull(column="received_at"),
        gxe.ExpectColumnMaxToBeBetween(column="event_time", max_value=end, strict_max=True),
        gxe.ExpectColumnMaxToBeBetween(column="received_at", max_value=end, strict_max=True),
    ]
    for column in TABLES[name].columns:
        if column.required:
            expectations.append(gxe.ExpectColumnValuesToNotBeNull(column=column.name))
        if column.low is not None and rows[column.name].null_count < rows.num_rows:
            expectations.append(gxe.ExpectColumnValuesToBeBetween(column=column.name, min_value=column.low, max_value=column.high))
        if column.name == "market" and rows["market"].null_count < rows.num_rows:
            expectations.append(gxe.ExpectColumnValuesToMatchRegex(column="market", regex=MARKET))
    if name == "privacy_requests":
        expectations.append(gxe.ExpectColumnValuesToBeInSet(column="request", value_set=list(PRIVACY_REQUESTS)))
    if name in ("plays", "impressions") and rows.num_rows >= 100:
        expectations.append(gxe.ExpectColumnMeanToBeBetween(column="is_late", max_value=MOST_LATE))
    return gx.ExpectationSuite(name=name, expectations=expectations)


def _counts_frame(counts: Mapping[str, Mapping[str, int]]) -> "pd.DataFrame":
    import pandas as pd

    frame = pd.DataFrame([{"table": name, **row} for name, row in counts.items()])
    frame["unaccounted"] = frame.landed - frame.published - frame.quarantined - frame.duplicates
    frame["quarantined_share"] = (frame.quarantined / frame.landed.clip(lower=1)).where(frame.quarantined > FEW, 0.0)
    return frame


def _shares(counts: Mapping[str, Mapping[str, int]]) -> str:
    """Which tables it is about: the sums have a row a table."""
    return ", ".join(f"{name}: {row['quarantined']} of {row['landed']} quarantined" for name, row in counts.items() if row["quarantined"])


def _counts_suite() -> "ExpectationSuite":
    import great_expectations as gx
    import great_expectations.expectations as gxe

    return gx.ExpectationSuite(name="ingest", expectations=[
        gxe.ExpectColumnValuesToBeInSet(column="unaccounted", value_set=[0]),
        gxe.ExpectColumnValuesToBeBetween(column="quarantined_share", min_value=0, max_value=MOST_QUARANTINED),
    ])


def _judge(name: str, frame: "pd.DataFrame", suite: "ExpectationSuite") -> tuple[int, list[Finding]]:
    import great_expectations as gx
    from great_expectations.data_context.types.base import ProgressBarsConfig

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False, metric_calculations=False)
    asset = context.data_sources.add_pandas("branch").add_dataframe_asset(name)
    batch = asset.add_batch_definition_whole_dataframe("all rows").get_batch({"dataframe": frame})
    result = batch.validate(suite, result_format="SUMMARY")
    findings = [_finding(name, one) for one in result.results if not one.success]
    if not findings and not result.success:
        raise MarqueeError(f"{name}: Great Expectations reports no success and no reason")
    return len(result.results) - len(findings), findings


def _finding(table: str, result) -> Finding:
    exception = result.exception_info or {}
    entries = [exception] if "raised_exception" in exception else list(exception.values())
    raised = next((e for e in entries if e.get("raised_exception")), None)
    config = result.expectation_config
    detail = raised["exception_message"] if raised else _observed(result.result)
    return Finding(table, config.type, str(config.kwargs.get("column", "")), detail, raised is not None)


def _observed(result: Mapping) -> str:
    if "observed_value" in result:
        return f"observed {result['observed_value']}"
    return f"{result.get('unexpected_count')} of {result.get('element_count')} rows, such as {result.get('partial_unexpected_list', [])[:3]}"

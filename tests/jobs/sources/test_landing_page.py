"""docs/data/landing.md says what the contract says, and its example works."""

import os
import re
import subprocess

import pytest

from contracts.landing import TABLES
from contracts.settings import REPOSITORY
from jobs.sources.check import check

PAGE = (REPOSITORY / "docs" / "data" / "landing.md").read_text()
EVENT_COLUMNS = ("event_id", "event_time", "received_at")


@pytest.mark.parametrize("table", TABLES.values(), ids=lambda t: t.name)
def test_every_table_and_column_is_explained(table):
    heading = f"### `{table.name}`{' (required)' if table.required else ''}\n"
    assert heading in PAGE
    section = PAGE.split(heading)[1].split("\n### ")[0]
    for column in table.columns:
        where = PAGE if column.name in EVENT_COLUMNS else section
        assert f"| `{column.name}` | {column.type} | {'yes' if column.required else 'no'} |" in where, f"{table.name}.{column.name}"


def test_no_column_is_explained_that_the_contract_does_not_have():
    named = set(re.findall(r"^\| `(\w+)` \| (?:string|int|float|bool|timestamp|list<string>) \|", PAGE, re.M))
    assert named == {column.name for table in TABLES.values() for column in table.columns}


def test_the_example_passes_the_check(tmp_path):
    script = re.search(r"```sh\n(day=.*?)marquee land check", PAGE, re.S)[1]
    (tmp_path / "landing").mkdir()
    subprocess.run(["bash", "-ec", script], env={**os.environ, "MARQUEE_HOME": str(tmp_path)}, check=True)
    report = check(tmp_path / "landing")
    assert report.ok, report.as_text()
    assert report.rows["2026-03-01..2026-03-30"]["plays"] == 1

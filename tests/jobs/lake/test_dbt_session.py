"""A person's dbt beside a live night, and the project against the contract."""

import shutil
import subprocess
import sys

import yaml

from contracts.landing import TABLES
from contracts.marts import MART_COLUMNS
from contracts.settings import REPOSITORY
from jobs.lake import dbt_session, read, warehouse


def model_files() -> dict[str, dict]:
    files = {path.stem: yaml.safe_load(path.read_text()) for path in dbt_session.PROJECT.glob("models/*/*.yml")}
    return {name: content["models"][0] for name, content in files.items() if "models" in content}


def test_every_model_has_a_yml_of_its_own_name():
    models = {path.stem for path in dbt_session.PROJECT.glob("models/*/*.sql")}
    assert len(models) > 15
    assert set(model_files()) == models
    assert all(content["name"] == name and content["description"] for name, content in model_files().items())


def test_contracts_of_marts_are_those_that_later_steps_read():
    found = {name: {c["name"]: c["data_type"] for c in content["columns"]} for name, content in model_files().items() if name in MART_COLUMNS}
    assert found == MART_COLUMNS
    assert [list(columns) for columns in found.values()] == [list(MART_COLUMNS[name]) for name in found]
    assert {path.stem for path in dbt_session.PROJECT.glob("models/marts/*.sql")} == set(MART_COLUMNS)


def test_every_mart_column_is_described_and_every_grain_tested():
    for name in MART_COLUMNS:
        model = model_files()[name]
        assert all(column.get("description") for column in model["columns"]), name
        tests = [next(iter(test)) for test in model["data_tests"]]
        assert "never_null" in tests, name
        assert "unique_grain" in tests or name == "dim_licence_window", name


def test_no_source_outside_staging():
    for path in dbt_session.PROJECT.glob("models/*/*.sql"):
        if path.parent.name != "staging":
            assert "source(" not in path.read_text(), path


def test_sources_are_the_landing_tables():
    sources = yaml.safe_load((dbt_session.PROJECT / "models" / "staging" / "_sources.yml").read_text())
    assert [table["name"] for table in sources["sources"][0]["tables"]] == list(TABLES)


def test_an_edit_is_built_beside_the_live_marts_with_its_unit_tests(nano):
    nano.reach("warehouse")
    before = read.tag_record(nano.settings, nano.ds)
    state = (nano.settings.lake / warehouse.STATE).read_text()
    done = nano.run("dbt", "build", "--select", "stg_landing__plays+")
    assert "2 unit tests" in done.stdout
    catalog = read.catalog(nano.settings)
    own = next(name[0] for name in catalog.list_namespaces() if name[0].startswith("dev_"))
    assert (own, "fct_play") in catalog.list_tables(own)
    assert read.table(nano.settings, f"{own}.fct_play").num_rows == before.tables["fct_play"].rows
    assert read.tag_record(nano.settings, nano.ds) == before
    assert (nano.settings.lake / warehouse.STATE).read_text() == state
    for name, version in before.tables.items():
        assert read.open_table(nano.settings, f"marts.{name}").current_snapshot().snapshot_id == version.snapshot_id, name


OTHER_PROJECT = """
import sys
from pathlib import Path
from jobs import cli
from jobs.lake import dbt_session
dbt_session.PROJECT = Path(sys.argv.pop(1))
cli.main()
"""


def test_a_column_that_the_contract_does_not_know_is_refused_where_the_table_is_there_too(nano, tmp_path):
    """dbt-spark alone asserts a contract where it creates a table: an incremental model would take the column."""
    nano.reach("warehouse")
    nano.run("dbt", "build", "--select", "feat_title_daily", "--exclude-resource-type", "unit_test")
    project = tmp_path / "dbt"
    shutil.copytree(dbt_session.PROJECT, project, ignore=shutil.ignore_patterns("target", "logs"))
    model = project / "models" / "marts" / "feat_title_daily.sql"
    head, end, body = model.read_text().partition("}}")
    model.write_text(f"{head}{end}\nselect *, 1 as surprise from ({body}) as edited")
    done = subprocess.run([sys.executable, "-c", OTHER_PROJECT, str(project), "dbt", "run", "--select", "feat_title_daily"], cwd=REPOSITORY,
                          env=nano.environment, capture_output=True, text=True, timeout=600)
    assert done.returncode
    assert "surprise" in done.stdout
    assert "contract" in done.stdout


def test_wrong_use_is_exit_code_2(nano):
    assert nano.run("dbt", "nonsense", check=False).returncode == 2

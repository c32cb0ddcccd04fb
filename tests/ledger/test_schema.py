"""Opening a ledger: migrated once, by one of many, to the schema that the code has."""

import time

import pytest
from alembic import autogenerate
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import text

from contracts.settings import Settings
from ledger import Ledger, LedgerUnavailable, database, open_ledger
from ledger.schema import METADATA
from tests.ledger.ledger_workers import at_once, open_once


def test_head_names_the_newest_migration():
    config = Config()
    config.set_main_option("script_location", str(database.MIGRATIONS))
    assert ScriptDirectory.from_config(config).get_current_head() == database.HEAD


def test_the_migrated_schema_is_the_codes(ledger: Ledger):
    with ledger.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert autogenerate.compare_metadata(context, METADATA) == []


def test_opening_again_is_cheap(home: Settings, ledger: Ledger):
    ledger.begin("r1", "2026-03-31", "begin")
    started = time.perf_counter()
    again = open_ledger(home)
    assert again.get("r1") is not None
    assert time.perf_counter() - started < 0.5
    again.close()


def test_many_may_open_it_first(home: Settings):
    assert at_once(open_once, [(home,)] * 3) == [0, 0, 0]
    ledger = open_ledger(home)
    assert ledger.releases() == []
    ledger.close()


def test_sqlite_keeps_a_write_ahead_log_and_waits_for_writers(tmp_path):
    ledger = open_ledger(Settings(_env_file=None, home=tmp_path))
    with ledger.engine.connect() as connection:
        assert connection.execute(text("PRAGMA journal_mode")).scalar() == "wal"
        assert connection.execute(text("PRAGMA busy_timeout")).scalar() == database.BUSY_SECONDS * 1000
        assert connection.execute(text("PRAGMA foreign_keys")).scalar() == 1


def test_a_database_that_cannot_write_is_said_in_its_own_words(tmp_path, monkeypatch):
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.1)
    settings = Settings(_env_file=None, home=tmp_path)
    ledger, other = open_ledger(settings), open_ledger(settings)
    with database.writing(other.engine), pytest.raises(LedgerUnavailable, match="the ledger's database: database is locked"):
        ledger.begin("a", "2026-03-31", "begin")
    assert ledger.releases() == []
    ledger.close(), other.close()


def test_a_time_without_a_zone_is_refused(ledger: Ledger):
    from datetime import datetime

    ledger.begin("a", "2026-03-31", "begin")
    proposed = ledger.propose("a", 0)
    with pytest.raises(Exception, match="no time zone"):
        ledger.switch(proposed.version, datetime(2026, 4, 1))
    assert ledger.pointer() == proposed

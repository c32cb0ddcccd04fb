"""Connections: SQLite in WAL with a busy timeout, or PostgreSQL; the schema is migrated on first use, once at a time."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import Connection, Engine, create_engine, event, inspect, make_url, text
from sqlalchemy.exc import OperationalError

from ledger.errors import LedgerUnavailable

MIGRATIONS = Path(__file__).parent / "migrations"
HEAD = "0004"
"""The newest migration; a test compares it with the folder, so that opening a current ledger need not load Alembic."""

BUSY_SECONDS = 30
ADVISORY_LOCK = 7203_1
"""Number of the PostgreSQL advisory lock that migrations hold; appends of the eligibility log hold the next one, questions the one after it."""


def connect(address: str) -> Engine:
    """An engine for `sqlite:///…` or `postgresql://…` (psycopg 3)."""
    url = make_url(address)
    if url.get_backend_name() == "postgresql":
        return create_engine(url.set(drivername="postgresql+psycopg"), pool_pre_ping=True)
    if url.database and url.database != ":memory:":
        Path(url.database).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(url, connect_args={"timeout": BUSY_SECONDS})
    event.listen(engine, "connect", _set_up_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _set_up_sqlite(connection, _record) -> None:
    connection.isolation_level = None  # transactions are begun by `_begin_sqlite`, not by the driver
    for pragma in ("journal_mode=WAL", f"busy_timeout={BUSY_SECONDS * 1000}", "foreign_keys=ON", "synchronous=FULL"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    """A writer takes the write lock at once: upgrading a read transaction would fail where another wrote meanwhile."""
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """One transaction that writes. Raises LedgerUnavailable where the database does not let it."""
    with _answering(), engine.connect().execution_options(writes=True) as connection, connection.begin():
        yield connection


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """One transaction that reads: a consistent view. Raises LedgerUnavailable where the database does not answer."""
    with _answering(), engine.connect() as connection, connection.begin():
        yield connection


@contextmanager
def _answering() -> Iterator[None]:
    """A full disk, a lock that stays, a server that is away: in the database's own words, without its statement."""
    try:
        yield
    except OperationalError as error:
        raise LedgerUnavailable(f"the ledger's database: {error.orig}") from error


def migrate(engine: Engine) -> None:
    """Brings the schema to HEAD; cheap where it is; safe where several processes start at once."""
    if _revision(engine) == HEAD:
        return
    with _one_at_a_time(engine):
        if _revision(engine) != HEAD:
            _upgrade(engine)


def _revision(engine: Engine) -> str | None:
    with reading(engine) as connection:
        if not inspect(connection).has_table("alembic_version"):
            return None
        return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def _upgrade(engine: Engine) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with writing(engine) as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


@contextmanager
def _one_at_a_time(engine: Engine) -> Iterator[None]:
    if engine.dialect.name == "postgresql":
        with engine.connect() as connection:
            connection.execute(text("SELECT pg_advisory_lock(:n)"), {"n": ADVISORY_LOCK})
            try:
                yield
            finally:
                connection.execute(text("SELECT pg_advisory_unlock(:n)"), {"n": ADVISORY_LOCK})
        return
    with Path(f"{engine.url.database}.migrate.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def wall(connection: Connection) -> datetime:
    """The present by the ledger's own clock, which leases and deadlines go by: a machine whose clock is off holds no lease
    of the future and ends no probe. SQLite's is this machine's."""
    if connection.dialect.name == "postgresql":
        return connection.execute(text("SELECT clock_timestamp()")).scalar_one().astimezone(UTC)
    return datetime.now(UTC)


def lock_appends(connection: Connection) -> None:
    """Numbers of the log and of the overlay must become visible in order: one append at a time."""
    _lock(connection, ADVISORY_LOCK + 1)


def lock_questions(connection: Connection) -> None:
    """Of two releases that are asked about at once, the second must see the first."""
    _lock(connection, ADVISORY_LOCK + 2)


def _lock(connection: Connection, number: int) -> None:
    """Until the transaction ends. SQLite has one writer anyway."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:n)"), {"n": number})

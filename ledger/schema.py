"""Tables of the ledger. Alembic's migrations are the truth on disk; a test compares the two."""

from datetime import UTC, datetime

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    DateTime,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    TypeDecorator,
)

METADATA = MetaData()


class UtcTime(TypeDecorator):
    """Timezone-aware UTC in and out; SQLite keeps it without the zone."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"{value} has no time zone")
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | None, dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


Sequence = BigInteger().with_variant(Integer, "sqlite")  # SQLite counts up INTEGER keys only

RELEASES = Table(
    "releases", METADATA,
    Column("release_id", String(64), primary_key=True),
    Column("day", String(10), nullable=False),
    Column("state", String(32), nullable=False),
    Column("payload_digest", String(64)),
    Column("evidence_digest", String(64)),
    Column("compared_with", String(64)),
    Column("created_at", UtcTime, nullable=False),
)

# append-only: who did what, when and why
TRANSITIONS = Table(
    "transitions", METADATA,
    Column("number", Sequence, primary_key=True, autoincrement=True),
    Column("release_id", String(64), ForeignKey("releases.release_id"), nullable=False),
    Column("at", UtcTime, nullable=False),
    Column("actor", String(200), nullable=False),
    Column("from_state", String(32)),
    Column("to_state", String(32), nullable=False),
    Column("reason", String, nullable=False),
    Column("details", JSON, nullable=False),
    Index("transitions_by_release", "release_id", "number"),
    sqlite_autoincrement=True,
)

# one row per arm, moved by compare-and-swap on `version` only
POINTER = Table(
    "pointer", METADATA,
    Column("arm", String(64), primary_key=True),
    Column("release_id", String(64), ForeignKey("releases.release_id")),
    Column("previous", String(64), ForeignKey("releases.release_id")),
    Column("phase", String(16), nullable=False),
    Column("candidate", String(64), ForeignKey("releases.release_id")),
    Column("version", BigInteger, nullable=False),
    Column("deadline", UtcTime),
)

# leases of serving replicas, wall time
REPLICAS = Table(
    "replicas", METADATA,
    Column("replica_id", String(200), primary_key=True),
    Column("address", String(500), nullable=False),
    Column("loaded", JSON, nullable=False),
    Column("serving", String(64)),
    Column("expires_at", UtcTime, nullable=False),
)

# append-only and numbered; `record_key` says which landed record it is, so that landing it again adds nothing
ELIGIBILITY = Table(
    "eligibility_log", METADATA,
    Column("seq", Sequence, primary_key=True, autoincrement=True),
    Column("record_key", String(300), nullable=False, unique=True),
    Column("known_at", BigInteger, nullable=False),
    Column("kind", String(16), nullable=False),
    Column("title_id", String(200), nullable=False),
    Column("maturity", Integer),
    Column("window_id", String(200), nullable=False),
    Column("market", String(64), nullable=False),
    Column("opens_at", BigInteger, nullable=False),
    Column("closes_at", BigInteger, nullable=False),
    Column("revoked", Boolean, nullable=False),
    Column("content", JSON(none_as_null=True)),
    Index("eligibility_by_subject", "title_id", "kind", "window_id"),
)

# how well the release that an arm had live did on a day that it had not seen; written once
LIVE_QUALITY = Table(
    "live_quality", METADATA,
    Column("release_id", String(64), ForeignKey("releases.release_id"), primary_key=True),
    Column("ds", String(10), primary_key=True),
    Column("arm", String(64), primary_key=True),
    Column("at", UtcTime, nullable=False),
    Column("figures", JSON, nullable=False),
)

# what a night does about the models: trains them, or refreshes the index with those of `base`
DECISIONS = Table(
    "decisions", METADATA,
    Column("ds", String(10), primary_key=True),
    Column("action", String(16), nullable=False),
    Column("base", String(64), ForeignKey("releases.release_id")),
    Column("reason", String, nullable=False),
    Column("actor", String(200), nullable=False),
    Column("at", UtcTime, nullable=False),
)

# append-only and numbered over all releases: titles that arrived or changed since a release was built, with the vector
# of its own item tower; `title_seq` is the version of the title in the eligibility log
OVERLAY = Table(
    "overlay", METADATA,
    Column("seq", Sequence, primary_key=True, autoincrement=True),
    Column("release_id", String(64), ForeignKey("releases.release_id"), nullable=False),
    Column("title_id", String(200), nullable=False),
    Column("title_seq", Sequence, ForeignKey("eligibility_log.seq"), nullable=False),
    Column("vector", LargeBinary, nullable=False),
    Index("overlay_by_title", "release_id", "title_id", "title_seq", unique=True),
    Index("overlay_by_release", "release_id", "seq"),
    sqlite_autoincrement=True,
)

# how far a reader of landed folders or of the log has come
CURSORS = Table(
    "cursors", METADATA,
    Column("name", String(200), primary_key=True),
    Column("position", JSON, nullable=False),
)

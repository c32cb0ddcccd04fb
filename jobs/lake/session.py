"""The one Spark session of a process: quiet, UTC, loopback only, with the Iceberg catalogue `marquee` as default.

A second home in the same process (tests) gets a session of its own on the same JVM, so catalogues never mix.
"""

import os
import shutil
import sys
import threading
import time
from pathlib import Path

from pyspark.sql import SparkSession
from sqlalchemy.engine import make_url

from contracts.errors import UsageError
from contracts.marts import CATALOG, MARTS, RAW, TRAINING
from contracts.settings import Settings
from jobs.lake.jars import jar_paths

_QUIET_LOG4J = """\
rootLogger.level = error
rootLogger.appenderRef.stderr.ref = stderr
appender.stderr.type = Console
appender.stderr.name = stderr
appender.stderr.target = SYSTEM_ERR
appender.stderr.layout.type = PatternLayout
appender.stderr.layout.pattern = %d{HH:mm:ss} %p %c{1}: %m%n
"""

_lock = threading.Lock()
_sessions: dict[tuple[str, str], SparkSession] = {}


def spark_session(settings: Settings) -> SparkSession:
    """The session of this home, made on first use; it is also the one that `SparkSession.builder.getOrCreate()` finds,
    which is how dbt and Feast come to share it. Raises UsageError where Java or the jars are missing."""
    key = (settings.catalog_address(), settings.warehouse_address())
    with _lock:
        session = _sessions.get(key)
        if session is None or session.sparkContext._jsc is None:
            session = _sessions[key] = _open(settings)
        _make_current(session)
        return session


def ensure_namespaces(session: SparkSession) -> None:
    """Creates raw, marts and training where they are missing."""
    there = {row[0] for row in session.sql(f"show namespaces in {CATALOG}").collect()}
    for name in (RAW, MARTS, TRAINING):
        if name not in there:
            session.sql(f"create namespace if not exists {CATALOG}.{name}")


def _open(settings: Settings) -> SparkSession:
    settings.lake.mkdir(parents=True, exist_ok=True)
    running = SparkSession._instantiatedSession
    if running is not None and running.sparkContext._jsc is not None:
        session = running.newSession()
        for name, value in _catalogue(settings).items():
            session.conf.set(name, value)
        return session
    if not shutil.which("java") and "JAVA_HOME" not in os.environ:
        raise UsageError("java is not on the PATH: install Java 17, for example `apt-get install openjdk-17-jre-headless`")
    os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    os.environ["TZ"] = "UTC"  # Feast and Spark's Python side read naive times in the process's zone
    time.tzset()
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    builder = SparkSession.builder.appName("marquee").master(settings.spark_master)
    for name, value in (_engine(settings) | _catalogue(settings)).items():
        builder = builder.config(name, value)
    return builder.getOrCreate()


def _make_current(session: SparkSession) -> None:
    SparkSession._instantiatedSession = session
    SparkSession._activeSession = session
    jvm = session.sparkContext._jvm
    jvm.org.apache.spark.sql.classic.SparkSession.setDefaultSession(session._jsparkSession)
    jvm.org.apache.spark.sql.classic.SparkSession.setActiveSession(session._jsparkSession)


def _engine(settings: Settings) -> dict[str, str]:
    scratch = settings.work / "spark"
    scratch.mkdir(parents=True, exist_ok=True)
    log4j = scratch / "log4j2.properties"
    log4j.write_text(_QUIET_LOG4J)
    return {
        "spark.jars": ",".join(jar_paths()),
        "spark.driver.memory": settings.spark_driver_memory,
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.extraJavaOptions": f"-Duser.timezone=UTC -Dlog4j2.configurationFile=file:{log4j} -XX:+UseParallelGC "
                                         # a JVM without its optimiser reserves too little for dbt's queries and stops compiling
                                         f"-XX:ReservedCodeCacheSize=256m {settings.spark_java_options}",
        "spark.log.level": "ERROR",
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.local.dir": str(scratch),
        "spark.sql.warehouse.dir": str(scratch / "warehouse"),
        "spark.sql.catalogImplementation": "in-memory",  # no Derby, no Hive
        "spark.sql.extensions": "org.apache.iceberg.spark.extensions.IcebergSparkSessionExtensions",
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.shuffle.partitions": "4",
        "spark.sql.adaptive.enabled": "true",
        "spark.sql.sources.parallelPartitionDiscovery.threshold": "10000",  # list files here, not in a Spark job
        "spark.sql.sources.partitionOverwriteMode": "dynamic",
        "spark.sql.legacy.parquet.nanosAsLong": "true",  # pandas writes nanoseconds, which Spark has no type for
        "spark.sql.execution.arrow.pyspark.enabled": "true",
    }


def _catalogue(settings: Settings) -> dict[str, str]:
    prefix = f"spark.sql.catalog.{CATALOG}"
    url = make_url(settings.catalog_address())
    confs = {
        prefix: "org.apache.iceberg.spark.SparkCatalog",
        f"{prefix}.type": "jdbc",
        f"{prefix}.jdbc.schema-version": "V1",  # views need it
        f"{prefix}.warehouse": settings.warehouse_address(),
        # two writers on one table retry until both are in: a person's dbt beside a live night
        f"{prefix}.table-default.commit.retry.num-retries": "30",
        f"{prefix}.table-default.commit.retry.min-wait-ms": "50",
        f"{prefix}.table-default.commit.retry.max-wait-ms": "2000",
        "spark.sql.defaultCatalog": CATALOG,
    }
    if url.get_backend_name() == "sqlite":
        Path(url.database).parent.mkdir(parents=True, exist_ok=True)
        return confs | {f"{prefix}.uri": f"jdbc:sqlite:{url.database}?busy_timeout=30000"}
    confs[f"{prefix}.uri"] = f"jdbc:postgresql://{url.host}:{url.port or 5432}/{url.database}"
    confs[f"{prefix}.jdbc.user"] = url.username or ""
    confs[f"{prefix}.jdbc.password"] = url.password or ""
    return confs

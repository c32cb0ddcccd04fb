"""Every address, path and secret that the code reads: `MARQUEE_*` variables over `MARQUEE_HOME/settings.env`.

The embedded defaults need no variable at all; production sets addresses and nothing else changes.
"""

import os
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from contracts.errors import UsageError

REPOSITORY = Path(__file__).resolve().parent.parent

AIRFLOW_SECONDS = 120
"""Whoever asks Airflow waits so long: beside a night that uses every core it takes half a minute now and then."""


class Settings(BaseSettings):
    """One home's settings; ports are those that `marquee up` binds on 127.0.0.1."""

    model_config = SettingsConfigDict(env_prefix="MARQUEE_", extra="ignore")

    home: Path = Field(REPOSITORY / ".marquee", description="everything that is not code lives here")
    recipe: str = Field("demo", description="which configuration of jobs/recipes.py a build uses")
    threads: int = Field(2, description="threads of deterministic training; part of what makes bytes equal")
    device: str = Field("auto", description="auto, cpu or cuda: for towers and embedding")

    bind_host: str = Field("127.0.0.1", description="what the API listens on; a container says 0.0.0.0")
    airflow_port: int = 8080
    serving_port: int = 8000
    milvus_port: int = 19530
    serving_url: str = Field("", description="where jobs reach the API; empty: loopback and the port above")
    airflow_url: str = Field("", description="where jobs reach Airflow; empty: loopback and the port above")
    milvus_url: str = Field("", description="Milvus address; empty: loopback and the port above")
    milvus_token: str = ""
    airflow_user: str = Field("marquee", description="the service user whose token reads answers and triggers runs")
    airflow_password: str = ""

    database_url: str = Field("", description="ledger, eligibility log, overlay; empty: SQLite under home")
    events_url: str = Field("", description="serving's own event store; empty: SQLite under home")
    catalog_uri: str = Field("", description="Iceberg JDBC catalogue; empty: SQLite under home")
    warehouse: str = Field("", description="Iceberg warehouse folder or bucket; empty: under home")
    mlflow_uri: str = Field("", description="MLflow tracking; empty: SQLite under home")
    feast_registry: str = Field("", description="Feast SQL registry; empty: SQLite under home")
    feast_redis: str = Field("", description="Redis of Feast's online rows; empty: SQLite under home")
    spark_master: str = "local[2]"
    spark_driver_memory: str = "3g"
    spark_java_options: str = Field(
        "-XX:TieredStopAtLevel=1",
        description="more options of the driver's JVM. The default compiles quickly rather than well: on two cores a night "
                    "of thousands of short tasks is over before the optimiser pays (a nano ingest 176 s against 307 s on one "
                    "busy machine); a cluster's long stages want it empty")

    search_budget_ms: float = Field(250.0, description="a vector search that takes longer is replaced by exact search in process")
    hydrate_budget_ms: float = Field(200.0, description="a feature store that takes longer is done without")
    token_secret: str = Field("", description="signs the API's bearer tokens; empty: generated under home")
    approvers: str = Field("approver1,approver2", description="who may answer a promotion question, by user name")
    requesters: str = Field("admin", description="who besides approvers may request an override, by Airflow user name")
    approvals_needed: int = Field(1, ge=1, le=2, description="how many different people must say yes, one question after the other")
    approval_hours: float = Field(24.0, gt=0, description="a question expires after this; silence is a rejection")
    working_hours: str = Field("", description="when approval_hours count, as `mon-fri 09:00-18:00 Europe/Berlin`; empty: always")
    nightly_cron: str = Field("0 3 * * *", description="when the nightly run starts (UTC)")
    nightly_until: str = Field("", description="no scheduled night after this day (a demo's past world); empty: no end")
    night_due: str = Field("08:00", description="a night that still runs at this hour (UTC) is told; empty: never")
    retrain: Literal["every_night", "every_n_nights", "on_decay"] = Field(
        "every_night", description="when models are trained anew; on the other nights the index is refreshed with live's models")
    retrain_nights: int = Field(7, ge=1, description="live's models are trained anew when they are so many nights old: "
                                                     "every_n_nights, and at the latest for on_decay")
    retrain_decay: float = Field(0.1, gt=0, lt=1, description="on_decay: relative loss of live quality that is too much")
    retrain_window: int = Field(3, ge=1, description="on_decay: the mean of so many newest nights is held against the mean of "
                                                     "as many first nights of the same models")
    unattended_refresh: bool = Field(False, description="an index refresh that passes every gate goes live without a person")
    notify_webhook: str = Field("", description="notifications go here; with no mail address either: a file under home")
    notify_smtp: str = Field("", description="mail server: smtp://user:password@host:port, or smtps://; empty: no mail")
    notify_from: str = Field("marquee@localhost", description="sender of the mails")
    notify_to: str = Field("", description="who gets the mails, by comma")
    min_free_gb: float = Field(2.0, description="a job that writes refuses to start with less free disk than this")

    @cached_property
    def landing(self) -> Path:
        return self.home / "landing"

    @cached_property
    def releases(self) -> Path:
        return self.home / "releases"

    @cached_property
    def work(self) -> Path:
        """Scratch of jobs, by day or release; may be deleted while no job runs."""
        return self.home / "work"

    @cached_property
    def logs(self) -> Path:
        return self.home / "logs"

    @cached_property
    def lake(self) -> Path:
        return self.home / "lake"

    def serving_address(self) -> str:
        return self.serving_url or f"http://127.0.0.1:{self.serving_port}"

    def airflow_address(self) -> str:
        return self.airflow_url or f"http://127.0.0.1:{self.airflow_port}"

    def milvus_address(self) -> str:
        return self.milvus_url or f"http://127.0.0.1:{self.milvus_port}"

    def milvus_connection(self) -> dict[str, Any]:
        """Arguments of every MilvusClient. A connection of its own: pymilvus shares one among the clients of a process,
        and a dropped one with them all. Rare pings: pymilvus pings every 10 s, and a gRPC server that allows one in
        5 minutes, as Lite does, then drops the connection (`Too many pings`)."""
        return {"uri": self.milvus_address(), "token": self.milvus_token, "dedicated": True,
                "grpc_options": {"grpc.keepalive_time_ms": 360_000, "grpc.keepalive_permit_without_calls": 0}}

    def database_address(self) -> str:
        return self.database_url or f"sqlite:///{self.home / 'ledger.db'}"

    def events_address(self) -> str:
        return self.events_url or f"sqlite:///{self.home / 'events.db'}"

    def catalog_address(self) -> str:
        """SQLAlchemy form; the Spark session turns it into JDBC."""
        return self.catalog_uri or f"sqlite:///{self.lake / 'catalog.db'}"

    def warehouse_address(self) -> str:
        return self.warehouse or f"file://{self.lake / 'warehouse'}"

    def mlflow_address(self) -> str:
        return self.mlflow_uri or f"sqlite:///{self.home / 'mlflow.db'}"

    def feast_registry_address(self) -> str:
        return self.feast_registry or f"sqlite:///{self.home / 'feast' / 'registry.db'}"

    def approver_names(self) -> list[str]:
        return _names(self.approvers)

    def requester_names(self) -> list[str]:
        """Who may request an override; an approver among them cannot approve it."""
        return list(dict.fromkeys(self.approver_names() + _names(self.requesters)))


def _names(by_comma: str) -> list[str]:
    return [name.strip() for name in by_comma.split(",") if name.strip()]


def load() -> Settings:
    """The settings of this process; `MARQUEE_HOME/settings.env` fills what the environment leaves open. UsageError names
    a variable whose value will not do.

    Not cached: tests and the demo change the environment between calls.
    """
    home = Path(os.environ.get("MARQUEE_HOME") or REPOSITORY / ".marquee").absolute()
    try:
        return Settings(_env_file=home / "settings.env", home=home)
    except ValidationError as error:
        wrong = "; ".join(f"MARQUEE_{'_'.join(map(str, e['loc'])).upper()}={e['input']}: {e['msg']}" for e in error.errors())
        raise UsageError(f"settings (environment, {home / 'settings.env'}): {wrong}") from None

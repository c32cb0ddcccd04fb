"""Airflow's settings, all of them as environment, which wins over the airflow.cfg that Airflow writes for itself."""

import json
import os

from contracts.settings import REPOSITORY, Settings
from local import home
from local.ports import LOOPBACK


def environment(settings: Settings) -> dict[str, str]:
    """What every Airflow process of this home runs with. Also writes the passwords file that the sign-in reads."""
    secret = home.airflow_secrets(settings)
    root = settings.home / "airflow"
    passwords = root / "passwords.json"
    home.write_private(passwords, json.dumps(secret["passwords"]))
    # `user` may trigger runs and answer questions that name them; only approvers are named in a question
    people = ",".join(f"{name}:{'admin' if name == home.ADMIN else 'user'}" for name in secret["passwords"])
    address = f"http://{LOOPBACK}:{settings.airflow_port}"
    return base(settings) | {
        "AIRFLOW_HOME": str(root),
        "AIRFLOW__CORE__DAGS_FOLDER": str(REPOSITORY / "dags"),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(REPOSITORY / "dags" / "plugins"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        "AIRFLOW__CORE__PARALLELISM": "4",
        "AIRFLOW__CORE__DEFAULT_TIMEZONE": "utc",
        "AIRFLOW__CORE__FERNET_KEY": secret["fernet_key"],
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": people,
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(passwords),
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{address}/execution/",
        "AIRFLOW__API__HOST": LOOPBACK,
        "AIRFLOW__API__PORT": str(settings.airflow_port),
        "AIRFLOW__API__BASE_URL": address,
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__API__SECRET_KEY": secret["api_secret_key"],
        "AIRFLOW__API_AUTH__JWT_SECRET": secret["jwt_secret"],
        # who finds the database locked waits: 5 s, the default, are not enough on a busy machine
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{root / 'airflow.db'}?timeout=30",
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(settings.logs / "tasks"),
        "AIRFLOW__LOGGING__DAG_PROCESSOR_CHILD_PROCESS_LOG_DIRECTORY": str(settings.logs / "dag-parsing"),
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "INFO",
        # a running task says that it lives every second
        "AIRFLOW__LOGGING__NAMESPACE_LEVELS": "http.access=WARNING httpx=WARNING",
        "AIRFLOW__SCHEDULER__CATCHUP_BY_DEFAULT": "False",
        # a killed worker's task is given up, and retried, after this many seconds
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "90",
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "10",
        "AIRFLOW__SCHEDULER__PARSING_PRE_IMPORT_MODULES": "False",
        "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "30",
        "AIRFLOW__DAG_PROCESSOR__PARSING_PROCESSES": "1",
        # 5 s, the default, leaves worker slots lingering after each task
        "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
        "AIRFLOW__METRICS__STATSD_ON": "False",
    }


def base(settings: Settings) -> dict[str, str]:
    """What every process of this home runs with: the caller's environment, without another Airflow's settings."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("AIRFLOW")}
    search = [str(REPOSITORY), *filter(None, [kept.get("PYTHONPATH")])]
    return kept | {
        "MARQUEE_HOME": str(settings.home),
        "PYTHONPATH": os.pathsep.join(search),
        "PYTHONUNBUFFERED": "1",
        "TZ": "UTC",
        "DO_NOT_TRACK": "1",
    }

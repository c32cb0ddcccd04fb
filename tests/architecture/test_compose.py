"""docker-compose.yml and the settings that the code reads are two lists of the same names."""

import os
import shutil
import subprocess

import pytest
import yaml

from contracts.settings import REPOSITORY, Settings

COMPOSE = REPOSITORY / "docker-compose.yml"
SECRETS = ("POSTGRES_PASSWORD", "REDIS_PASSWORD", "MARQUEE_TOKEN_SECRET", "AIRFLOW_JWT_SECRET", "MARQUEE_AIRFLOW_PASSWORD")
STORES = ("database_url", "events_url", "catalog_uri", "warehouse", "mlflow_uri", "feast_registry", "feast_redis",
          "milvus_url", "airflow_url", "serving_url")


@pytest.fixture(scope="module")
def services() -> dict:
    return yaml.safe_load(COMPOSE.read_text())["services"]


def marquee_variables(services: dict) -> set[str]:
    names = {name for service in services.values() for name in service.get("environment", {})}
    return {name for name in names if name.startswith("MARQUEE_")}


def test_every_variable_is_a_setting_that_the_code_reads(services):
    fields = {f"MARQUEE_{name.upper()}" for name in Settings.model_fields}
    given = marquee_variables(services)
    assert len(given) > 10
    assert given <= fields, f"docker-compose.yml sets what nobody reads: {sorted(given - fields)}"


def test_every_store_has_a_production_address(services):
    missing = {f"MARQUEE_{name.upper()}" for name in STORES} - marquee_variables(services)
    assert not missing, f"docker-compose.yml leaves these on the embedded default: {sorted(missing)}"


def test_no_secret_has_a_default():
    text = COMPOSE.read_text()
    for name in SECRETS:
        assert f"${{{name}:?" in text, f"{name} must be required"
        assert f"${{{name}:-" not in text


def test_ports_are_published_on_loopback_only(services):
    published = [port for service in services.values() for port in service.get("ports", [])]
    assert published
    assert all(port.startswith("127.0.0.1:") for port in published), published


def test_is_valid_under_docker_compose_config():
    program = shutil.which("docker-compose")
    if not program:
        pytest.skip("needs docker-compose (Debian's package of that name), which is not here")
    environment = os.environ | dict.fromkeys(SECRETS, "x")
    done = subprocess.run([program, "-f", str(COMPOSE), "config"], env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert set(yaml.safe_load(done.stdout)["services"]) >= {"postgres", "redis", "milvus", "mlflow", "serving"}


def test_missing_secret_is_refused_by_name():
    program = shutil.which("docker-compose")
    if not program:
        pytest.skip("needs docker-compose (Debian's package of that name), which is not here")
    environment = {k: v for k, v in os.environ.items() if k not in SECRETS}
    done = subprocess.run([program, "-f", str(COMPOSE), "config"], env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode != 0
    assert "set it in .env" in done.stderr

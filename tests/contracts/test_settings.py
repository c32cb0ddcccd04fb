import pytest

from contracts import settings


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("MARQUEE_HOME", str(tmp_path))
    return tmp_path


def test_everything_has_an_embedded_default_under_home(home):
    loaded = settings.load()
    for address in (loaded.database_address(), loaded.events_address(), loaded.catalog_address(),
                    loaded.warehouse_address(), loaded.mlflow_address(), loaded.feast_registry_address()):
        assert str(home) in address


def test_the_environment_wins_over_the_homes_file(home, monkeypatch):
    (home / "settings.env").write_text("MARQUEE_SERVING_PORT=8123\nMARQUEE_AIRFLOW_PORT=8124\n")
    monkeypatch.setenv("MARQUEE_AIRFLOW_PORT", "9000")
    loaded = settings.load()
    assert (loaded.serving_port, loaded.airflow_port) == (8123, 9000)
    assert loaded.serving_address() == "http://127.0.0.1:8123"


def test_a_given_address_replaces_the_embedded_one(home, monkeypatch):
    monkeypatch.setenv("MARQUEE_DATABASE_URL", "postgresql+psycopg://db/ledger")
    assert settings.load().database_address() == "postgresql+psycopg://db/ledger"


def test_every_setting_with_an_empty_default_says_what_empty_means():
    unexplained = [name for name, field in settings.Settings.model_fields.items()
                   if field.default == "" and name not in ("milvus_token", "airflow_password") and not field.description]
    assert not unexplained


def test_a_value_that_will_not_do_is_named(home, monkeypatch):
    monkeypatch.setenv("MARQUEE_RETRAIN", "sometimes")
    with pytest.raises(settings.UsageError, match=r"MARQUEE_RETRAIN=sometimes: .*'every_n_nights'"):
        settings.load()

"""A home's own ports and secrets: chosen once, private, kept; two homes do not collide."""

import socket
import stat

import pytest

from contracts.errors import UsageError
from contracts.settings import Settings
from local import home


@pytest.fixture(autouse=True)
def no_variables(monkeypatch):
    for setting in home.PORTS.values():
        monkeypatch.delenv(home.variable(setting), raising=False)


def settings_of(folder) -> Settings:
    return Settings(_env_file=folder / "settings.env", home=folder)


def ports(settings: Settings) -> dict[str, int]:
    return {name: getattr(settings, name) for name in home.PORTS.values()}


def test_what_is_made_first_is_kept(tmp_path):
    first = home.prepare(settings_of(tmp_path))
    secrets = home.airflow_secrets(first)
    again = home.prepare(settings_of(tmp_path))
    assert ports(again) == ports(first)
    assert home.airflow_secrets(again) == secrets
    assert again.airflow_password == secrets["passwords"]["marquee"] != ""
    assert set(secrets["passwords"]) == {"admin", "approver1", "approver2", "marquee"}


def test_secrets_are_their_owners_alone(tmp_path):
    home.airflow_secrets(home.prepare(settings_of(tmp_path)))
    private = [tmp_path / "settings.env", *(tmp_path / "secrets").iterdir()]
    assert len(private) == 3
    assert [p.name for p in private if stat.S_IMODE(p.stat().st_mode) != 0o600] == []


def test_a_taken_default_port_gives_way_to_a_free_one(tmp_path):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]
        settings = settings_of(tmp_path).model_copy(update={"serving_port": taken})
        chosen = home.prepare(settings)
    assert chosen.serving_port != taken
    assert len(set(ports(chosen).values())) == 3


def test_two_homes_that_start_at_the_same_time_take_different_ports(tmp_path):
    """Nothing listens yet when the second one chooses."""
    one, other = (home.prepare(settings_of(tmp_path / name)) for name in ("one", "other"))
    assert not set(ports(one).values()) & set(ports(other).values())
    (tmp_path / "one").rename(tmp_path / "gone")
    third = home.prepare(settings_of(tmp_path / "third"))
    assert not set(ports(third).values()) & set(ports(other).values())


def test_a_port_that_somebody_named_is_not_replaced(tmp_path, monkeypatch):
    monkeypatch.setenv("MARQUEE_SERVING_PORT", "18099")
    chosen = home.prepare(settings_of(tmp_path))
    assert chosen.serving_port == 18099
    assert "MARQUEE_SERVING_PORT" not in home.read_file(tmp_path)


def test_what_a_person_wrote_stays(tmp_path):
    (tmp_path / "settings.env").write_text("MARQUEE_THREADS=3\n# a note\n")
    assert home.prepare(settings_of(tmp_path)).threads == 3


def test_a_token_needs_a_key(tmp_path):
    with pytest.raises(UsageError, match="marquee up"):
        home.token_secret(settings_of(tmp_path))
    prepared = home.prepare(settings_of(tmp_path))
    assert home.token_secret(prepared) == home.token_secret(prepared)

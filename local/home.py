"""A home's own settings and secrets: made on the first `up`, kept ever after, readable by their owner only."""

import base64
import json
import os
import secrets
from pathlib import Path

from contracts import durable
from contracts.errors import UsageError
from contracts.settings import Settings
from local import ports

SETTINGS_FILE = "settings.env"
SECRETS_FOLDER = "secrets"
TOKEN_KEY = "token.key"
AIRFLOW_SECRETS = "airflow.json"
ADMIN = "admin"

PORTS = {"airflow": "airflow_port", "serving": "serving_port", "milvus": "milvus_port"}


def variable(setting: str) -> str:
    """The environment variable of a setting."""
    return f"MARQUEE_{setting.upper()}"


def reread(settings: Settings) -> Settings:
    """The same home's settings, as its settings.env says them now."""
    return Settings(_env_file=settings.home / SETTINGS_FILE, home=settings.home)


def read_file(home: Path) -> dict[str, str]:
    """What settings.env says, by variable; empty where there is none."""
    path = home / SETTINGS_FILE
    if not path.is_file():
        return {}
    lines = (line.strip() for line in path.read_text().splitlines())
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#") and "=" in line)


def write_file(home: Path, values: dict[str, str]) -> None:
    """Adds or replaces variables in settings.env; what a person wrote beside them stays."""
    merged = read_file(home) | values
    text = "# This home's settings; the environment's MARQUEE_* variables come first.\n"
    write_private(home / SETTINGS_FILE, text + "".join(f"{name}={value}\n" for name, value in sorted(merged.items())))


def prepare(settings: Settings) -> Settings:
    """Makes the home's folders, ports and secrets where they are missing; returns the settings as they are then.

    A port that neither the environment nor settings.env names is the default where that is free, else any free one, so
    that two homes run side by side.
    """
    for folder in ("run", "logs", SECRETS_FOLDER, "airflow"):
        (settings.home / folder).mkdir(parents=True, exist_ok=True)
    (settings.home / SECRETS_FOLDER).chmod(0o700)
    known = read_file(settings.home)
    chosen: dict[str, str] = {}
    taken: set[int] = set()
    for setting in PORTS.values():
        name = variable(setting)
        if name in os.environ or name in known:
            taken.add(getattr(settings, setting))
            continue
        port = ports.choose(getattr(settings, setting), taken, settings.home)
        taken.add(port)
        chosen[name] = str(port)
    password = variable("airflow_password")
    if not settings.airflow_password and password not in known:
        chosen[password] = secrets.token_urlsafe(18)
    if chosen:
        write_file(settings.home, chosen)
    token_key = settings.home / SECRETS_FOLDER / TOKEN_KEY
    if not token_key.exists():
        write_private(token_key, secrets.token_hex(32))
    return reread(settings)


def airflow_secrets(settings: Settings) -> dict:
    """`passwords` by user, `jwt_secret`, `api_secret_key`, `fernet_key`; made on first use."""
    path = settings.home / SECRETS_FOLDER / AIRFLOW_SECRETS
    if path.exists():
        return json.loads(path.read_text())
    people = [ADMIN, *settings.approver_names()]
    made = {
        "passwords": {name: secrets.token_urlsafe(9) for name in people} | {settings.airflow_user: settings.airflow_password},
        "jwt_secret": secrets.token_urlsafe(48),
        "api_secret_key": secrets.token_urlsafe(32),
        "fernet_key": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
    }
    write_private(path, json.dumps(made, indent=1))
    return made


def token_secret(settings: Settings) -> str:
    """What signs the API's bearer tokens; UsageError where the home has none yet."""
    if settings.token_secret:
        return settings.token_secret
    path = settings.home / SECRETS_FOLDER / TOKEN_KEY
    if not path.exists():
        raise UsageError(f"{path} is not there: run `marquee up` once, or set MARQUEE_TOKEN_SECRET")
    return path.read_text().strip()


def write_private(path: Path, text: str) -> None:
    """Writes a file that its owner alone may read, aside first."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    aside.touch(mode=0o600)
    aside.write_text(text)
    durable.publish(aside, path)

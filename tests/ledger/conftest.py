"""A ledger on SQLite, and on PostgreSQL where Debian's package is on the machine."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

from contracts.settings import Settings
from ledger import open_ledger

POSTGRES = sorted(Path("/usr/lib/postgresql").glob("*/bin"))


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


@pytest.fixture(scope="session")
def postgres(tmp_path_factory) -> str:
    """Address of a real PostgreSQL server on loopback, for the session."""
    if not POSTGRES:
        pytest.skip("needs PostgreSQL (Debian: apt-get install postgresql), which is not here")
    bin_folder, port = POSTGRES[-1], free_port()
    data = Path(f"/tmp/marquee-postgres-{os.getpid()}")
    shutil.rmtree(data, ignore_errors=True)
    data.mkdir(mode=0o700)
    as_user = {}
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root
        nobody = pwd.getpwnam("nobody")
        os.chown(data, nobody.pw_uid, nobody.pw_gid)
        as_user = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
    subprocess.run([bin_folder / "initdb", "-D", data, "-U", "marquee", "-A", "trust", "-N"], check=True, capture_output=True,
                   cwd="/tmp", **as_user)
    server = subprocess.Popen(
        [bin_folder / "postgres", "-D", data, "-p", str(port), "-h", "127.0.0.1", "-k", str(data), "-F"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/tmp", **as_user)
    try:
        _wait_ready(bin_folder, port)
        yield f"postgresql://marquee@127.0.0.1:{port}/postgres"
    finally:
        server.send_signal(signal.SIGQUIT)  # at once: its data is thrown away
        server.wait(30)
        shutil.rmtree(data, ignore_errors=True)


def _wait_ready(bin_folder: Path, port: int) -> None:
    for _ in range(100):
        if subprocess.run([bin_folder / "pg_isready", "-h", "127.0.0.1", "-p", str(port)], capture_output=True).returncode == 0:
            return
        time.sleep(0.1)
    raise AssertionError("PostgreSQL did not come up within 10 s")


@pytest.fixture(params=["sqlite", "postgresql"])
def home(request, tmp_path) -> Settings:
    """Settings of a fresh home on either database."""
    if request.param == "sqlite":
        return Settings(_env_file=None, home=tmp_path)
    import psycopg

    address = request.getfixturevalue("postgres")
    name = f"test_{time.monotonic_ns()}"
    with psycopg.connect(address, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return Settings(_env_file=None, home=tmp_path, database_url=address.rpartition("/")[0] + f"/{name}")


@pytest.fixture
def ledger(home):
    ledger = open_ledger(home)
    yield ledger
    ledger.close()

"""Loopback ports: is one free, does one answer, which one to take."""

import os
import socket
import tempfile
import time
from pathlib import Path

from contracts.errors import MarqueeError

LOOPBACK = "127.0.0.1"
CLAIM_SECONDS = 300.0


def is_free(port: int) -> bool:
    """Nothing listens on the port. SO_REUSEADDR as the servers do, so that a port in TIME_WAIT counts as free."""
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def free_port() -> int:
    """One that the system gives."""
    with socket.socket() as sock:
        sock.bind((LOOPBACK, 0))
        return sock.getsockname()[1]


def choose(wanted: int, taken: set[int], owner: Path) -> int:
    """`wanted` where it is free, not in `taken` and no other owner's claim; else a port that the system gives."""
    if wanted not in taken and is_free(wanted) and claim(wanted, owner):
        return wanted
    while True:
        port = free_port()
        if port not in taken and claim(port, owner):
            return port


def claim(port: int, owner: Path) -> bool:
    """Whether the port is the home `owner`'s for the next CLAIM_SECONDS: between the choice of a port and the server that binds it
    lies the start of everything, and two homes may start at the same time."""
    folder = Path(tempfile.gettempdir()) / f"marquee-ports-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    path = folder / str(port)
    try:
        if time.time() - path.stat().st_mtime > CLAIM_SECONDS or not Path(path.read_text()).exists():
            path.unlink()
    except FileNotFoundError:
        pass  # nobody's, or another home has just found it out of date too
    try:
        with path.open("x") as file:
            file.write(str(owner))
    except FileExistsError:
        return path.read_text() == str(owner)
    return True


def answers(port: int, host: str = LOOPBACK) -> bool:
    """Something accepts connections on the port."""
    with socket.socket() as sock:
        sock.settimeout(1)
        return sock.connect_ex((host, port)) == 0


def wait_for_port(port: int, seconds: float) -> None:
    """Returns when something accepts connections on the port; MarqueeError after `seconds`."""
    deadline = time.monotonic() + seconds
    while not answers(port):
        if time.monotonic() > deadline:
            raise MarqueeError(f"nothing listens on {LOOPBACK}:{port} after {seconds:.0f} s")
        time.sleep(0.2)

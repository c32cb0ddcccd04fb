"""Loopback ports: is one free, does one answer, which one to take."""

import socket
import time

from contracts.errors import MarqueeError

LOOPBACK = "127.0.0.1"


def is_free(port: int) -> bool:
    """Nothing listens on the port. SO_REUSEADDR as the servers do, so that a port in TIME_WAIT counts as free."""
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def choose(wanted: int, taken: set[int]) -> int:
    """`wanted` where it is free and not in `taken`; else a port that the system gives."""
    if wanted not in taken and is_free(wanted):
        return wanted
    while True:
        with socket.socket() as sock:
            sock.bind((LOOPBACK, 0))
            port = sock.getsockname()[1]
        if port not in taken:
            return port


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

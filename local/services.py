"""What runs beside the code in the embedded default, and how to start and stop it."""

import sys
from pathlib import Path

from local.ports import LOOPBACK, wait_for_port

__all__ = ["milvus_command", "wait_for_port"]


def milvus_command(data_dir: Path, port: int) -> list[str]:
    """Milvus Lite on loopback. One process owns a data folder, so jobs and serving share this server."""
    program = Path(sys.executable).with_name("milvus-lite")
    return [str(program), "server", "--data-dir", str(data_dir), "--host", LOOPBACK, "--port", str(port)]

"""The peers' own environment, made once from pinned requirements under the home: never the product's .venv."""

import hashlib
import subprocess
import sys
from pathlib import Path

from contracts.errors import MarqueeError
from contracts.settings import Settings

REQUIREMENTS = Path(__file__).parent / "requirements.txt"


def python() -> Path:
    """Its interpreter; made anew where the requirements changed. Raises MarqueeError with the installer's last words."""
    folder = Settings().home / "bench" / "peers"
    stamp, wanted = folder / "installed", hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()
    if not stamp.is_file() or stamp.read_text() != wanted:
        print(f"Making the peers' environment in {folder} (once, a few minutes)", file=sys.stderr)
        _uv("venv", "--clear", "--python", sys.executable, str(folder))
        _uv("pip", "install", "--python", str(folder / "bin" / "python"), "-r", str(REQUIREMENTS))
        stamp.write_text(wanted)
    return folder / "bin" / "python"


def _uv(*arguments: str) -> None:
    done = subprocess.run([Path(sys.executable).parent / "uv", *arguments, "--quiet"], capture_output=True, text=True)
    if done.returncode:
        raise MarqueeError(f"the peers' environment could not be made: {done.stderr.strip()[-500:]}")

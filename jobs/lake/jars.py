"""The jars that Spark needs beside PySpark's own: part of the environment, fetched once by `make install`.

`python -m jobs.lake.jars` fetches what `requirements/jars.txt` pins into `.venv/jars`, with the Ivy that PySpark
ships, in a cache of its own, and verifies size and SHA-256. A jar that is there and right is not fetched again.
"""

import hashlib
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pyspark

from contracts.errors import MarqueeError, UsageError
from contracts.settings import REPOSITORY

PINS = REPOSITORY / "requirements" / "jars.txt"
FOLDER = Path(sys.prefix) / "jars"
"""Beside the interpreter's own packages, so that the environment is whole or absent."""


@dataclass(frozen=True)
class Jar:
    """One pinned jar: Maven coordinates, size in bytes, SHA-256."""

    group: str
    artifact: str
    version: str
    size: int
    sha256: str

    @property
    def path(self) -> Path:
        return FOLDER / f"{self.artifact}-{self.version}.jar"


def pinned() -> list[Jar]:
    """The jars of `requirements/jars.txt`, in its order."""
    lines = [line.split("#")[0].split() for line in PINS.read_text().splitlines()]
    return [Jar(*line[0].split(":"), int(line[1]), line[2]) for line in lines if line]


def jar_paths() -> list[str]:
    """The files for `spark.jars`; raises UsageError where one is missing."""
    missing = [jar.path.name for jar in pinned() if not jar.path.is_file()]
    if missing:
        raise UsageError(f"{FOLDER} lacks {', '.join(missing)}: run `make install`")
    return [str(jar.path) for jar in pinned()]


def install() -> list[str]:
    """Fetches the jars that are missing or wrong; returns their names. Safe to repeat and to interrupt."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    wanted = [jar for jar in pinned() if not _is_right(jar.path, jar)]
    with tempfile.TemporaryDirectory(dir=FOLDER) as scratch:
        for jar in wanted:
            fetched = _fetch(jar, Path(scratch))
            if not _is_right(fetched, jar):
                raise MarqueeError(f"{fetched.name} does not have the size and SHA-256 that {PINS.name} pins")
            fetched.replace(jar.path)
    return [jar.path.name for jar in wanted]


def _fetch(jar: Jar, scratch: Path) -> Path:
    """Ivy, with default settings and an empty cache, so that no half-filled local repository can mislead it."""
    if not shutil.which("java"):
        raise UsageError("java is not on the PATH: install Java 17, for example `apt-get install openjdk-17-jre-headless`")
    ivy = next(Path(pyspark.__file__).parent.glob("jars/ivy-*.jar"))
    command = [
        "java", f"-Divy.default.ivy.user.dir={scratch / 'ivy'}", "-jar", str(ivy), "-warn",
        "-types", "jar", "bundle", "-confs", "default", "-notransitive",
        "-dependency", jar.group, jar.artifact, jar.version,
        "-retrieve", str(scratch / "[artifact]-[revision].[ext]"),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode or not (scratch / jar.path.name).is_file():
        raise MarqueeError(f"cannot fetch {jar.group}:{jar.artifact}:{jar.version}: {_first_complaint(done.stdout + done.stderr)}")
    return scratch / jar.path.name


def _first_complaint(output: str) -> str:
    lines = [line.strip() for line in output.splitlines() if line.strip(" .\t")]
    return next((line for line in lines if "not found" in line or "rror" in line), "is Maven Central reachable?")


def _is_right(path: Path, jar: Jar) -> bool:
    if not path.is_file() or path.stat().st_size != jar.size:
        return False
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == jar.sha256


def main() -> None:
    try:
        fetched = install()
    except UsageError as error:
        sys.exit(f"marquee: {error}")
    except MarqueeError as error:
        sys.exit(f"marquee: failed: {error}")
    print(f"jars: {', '.join(fetched) or 'all there'}", file=sys.stderr)


if __name__ == "__main__":
    main()

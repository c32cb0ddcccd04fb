"""What a release's bytes depend on beside its data: source files, library versions, device."""

import hashlib
import platform
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

CODE = ("contracts", "jobs", "dbt", "feature_repo", "serving", "requirements")
"""Folders whose content decides what a release is; not git's HEAD, so that an edited or exported tree names itself."""

NOT_CODE = frozenset({"__pycache__", "target", "logs", "dbt_packages", "node_modules"})

LIBRARIES = ("torch", "numpy", "onnx", "onnxscript", "onnxruntime", "lightgbm", "pyarrow", "pandas", "pyspark",
             "dbt-core", "dbt-spark", "feast", "pyiceberg")
"""Libraries that can change the bytes of a release."""


def code_hash(root: Path) -> str:
    """SHA-256 over names and contents of the source files under `CODE`, in order of name."""
    total = hashlib.sha256()
    for path in sorted(source_files(root), key=lambda p: p.relative_to(root).as_posix()):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        total.update(f"{path.relative_to(root).as_posix()}\0{content}\n".encode())
    return total.hexdigest()


def source_files(root: Path) -> Iterator[Path]:
    """Files that are code: none hidden, none that a tool made."""
    for folder in CODE:
        for path in (root / folder).rglob("*"):
            parts = path.relative_to(root).parts
            if path.is_file() and not any(p in NOT_CODE or p.startswith(".") for p in parts) and path.suffix != ".pyc":
                yield path


def library_versions() -> dict[str, str]:
    versions = {"python": platform.python_version(), "machine": platform.machine()}
    for library in LIBRARIES:
        try:
            versions[library] = metadata.version(library)
        except metadata.PackageNotFoundError:
            versions[library] = "absent"
    return versions


def device_kind(device: str) -> str:
    """`cpu` or `cuda`; `auto` asks torch only where a driver is there."""
    if device != "auto":
        return device
    if not Path("/dev/nvidiactl").exists():
        return "cpu"
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"

"""Files that others read: written aside, brought to the disk, published by one rename. A kill or a power cut at any moment
leaves the old file or the new one, whole.
"""

import os
from pathlib import Path


def write(path: Path, content: str | bytes) -> None:
    """The whole file anew."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    aside.write_bytes(content.encode() if isinstance(content, str) else content)
    publish(aside, path)


def publish(aside: Path, final: Path) -> None:
    """A file or a folder that is complete under the name `aside` becomes `final`. Content first, then its name: a rename
    that reaches the disk before the content would publish an empty file."""
    sync_tree(aside)
    aside.replace(final)
    sync(final.parent)


def sync_tree(path: Path) -> None:
    """Brings a file, or a folder with all that is in it, to the disk."""
    for inside in path.rglob("*") if path.is_dir() else ():
        sync(inside)
    sync(path)


def sync(path: Path) -> None:
    """Brings one file's content, or one folder's names, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

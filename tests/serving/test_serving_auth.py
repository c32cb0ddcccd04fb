"""The signing key that whoever comes first makes."""

import os
from pathlib import Path

from contracts.settings import Settings
from serving import auth


def test_the_key_is_on_the_disk_before_its_name_and_its_name_before_it_signs(tmp_path, monkeypatch):
    steps, real_sync, real_link = [], os.fsync, os.link

    def fsync(descriptor: int) -> None:
        steps.append(f"sync {Path(os.readlink(f'/proc/self/fd/{descriptor}')).name}")
        real_sync(descriptor)

    def link(aside: Path, path: Path) -> None:
        steps.append(f"name {path.name}")
        real_link(aside, path)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "link", link)
    settings = Settings(_env_file=None, home=tmp_path, token_secret="")
    key = auth.secret(settings)
    assert steps == [f"sync .token.key.{os.getpid()}", "name token.key", "sync secrets"]
    assert (auth.secret(settings), os.listdir(tmp_path / "secrets")) == (key, ["token.key"])

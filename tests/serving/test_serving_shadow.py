"""The shadow server as the judge starts it: a process on loopback, one release, a moment of the past."""

import os
import subprocess
import sys
import time
from contextlib import contextmanager
from datetime import timedelta

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from contracts.marts import PROFILE_FEATURES
from contracts.release import MANIFEST
from contracts.settings import REPOSITORY
from serving.__main__ import main
from tests.conftest import free_port
from tests.serving.doubles import ONE
from tests.serving.tiny_world import NOW, oracle

BEFORE = NOW - timedelta(days=2)


def command(settings, *arguments: str) -> tuple[list[str], dict[str, str]]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MARQUEE_")}
    environment |= {"MARQUEE_HOME": str(settings.home), "MARQUEE_MILVUS_PORT": str(settings.milvus_port)}
    return [sys.executable, "-m", "serving", *arguments], environment


@contextmanager
def shadow(settings, release_id, member_state):
    port = free_port()
    line, environment = command(settings, "--port", str(port), "--shadow", "--release", release_id, "--member-state", str(member_state))
    process = subprocess.Popen(line, env=environment, cwd=REPOSITORY, stderr=subprocess.PIPE, text=True)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=30) as client:
            deadline = time.monotonic() + 120
            while not ready(client):
                assert process.poll() is None, process.stderr.read()
                assert time.monotonic() < deadline
                time.sleep(0.1)
            yield client
    finally:
        process.terminate()
        process.wait(20)


def ready(client: httpx.Client) -> bool:
    try:
        return client.get("/readyz").status_code == 200
    except httpx.TransportError:
        return False


@pytest.fixture
def member_state(tmp_path):
    row = {"request_id": "r1", "profile_id": "p1", "event_time": BEFORE, "market": "de", "is_kids": False, "maturity_limit": 12,
           "preferred_genres": ["drama"], "language": "en", "attributes": [], "device": "tv", "surface": "home",
           **dict.fromkeys(PROFILE_FEATURES), "last_play_at": BEFORE}
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "profiles.parquet")
    plays = [{"profile_id": "p1", "title_id": title, "event_time": at, "known_at": known, "completion": 0.9, "rating": None,
              "engaged": True} for title, at, known in (
        ("t003", BEFORE - timedelta(hours=3), BEFORE - timedelta(hours=2)),
        ("t004", BEFORE - timedelta(hours=1), BEFORE + timedelta(hours=5)),  # known too late
        ("t005", BEFORE + timedelta(hours=1), BEFORE + timedelta(hours=1)))]
    pq.write_table(pa.Table.from_pylist(plays), tmp_path / "plays.parquet")
    return tmp_path


def test_the_judge_sees_the_shelf_of_then_before_there_is_a_manifest(world, member_state):
    manifest = world.settings.releases / ONE / MANIFEST
    aside = manifest.rename(manifest.with_suffix(".aside"))
    try:
        with shadow(world.settings, ONE, member_state) as client:
            answers = [client.get("/v1/profiles/p1/shelf", params={
                "as_of": BEFORE.isoformat(), "size": 100, "device": "tv", "debug": "true"}) for _ in range(2)]
            answer = answers[0].json()
            assert answers[0].status_code == 200, answer
            shown = [t["title_id"] for t in answer["titles"]]
            assert shown == [t["title_id"] for t in answers[1].json()["titles"]]
            assert all(oracle(world.catalogue.log, t, "de", 12, BEFORE) for t in shown)
            assert "t003" not in shown
            assert answer["degraded"] == []
            assert answer["generated_at"].startswith(BEFORE.isoformat()[:19])
            pool = answer["pool"]
            assert len(pool["title_ids"]) == len(pool["retrieval_scores"]) == len(pool["ranker_scores"])
            assert pool["retrieval_scores"] == sorted(pool["retrieval_scores"], reverse=True)
            assert set(shown) & set(pool["title_ids"])
            assert len(pool["unranked"]) == len(shown)
            unknown = client.get("/v1/profiles/nobody/shelf")
            assert (unknown.status_code, unknown.json()["status"]) == (404, 404)
            assert client.get("/v1/markets/de/popular").status_code == 404
    finally:
        aside.rename(manifest)


@pytest.mark.parametrize(("arguments", "words"), [
    (("--shadow",), "--release"), (("--release", ONE), "--shadow"),
    (("--shadow", "--release", "nosuch", "--member-state", "nowhere"), "no such release"),
])
def test_wrong_use_is_one_line_and_exit_code_2(world, monkeypatch, capsys, arguments, words):
    monkeypatch.setenv("MARQUEE_HOME", str(world.settings.home))
    monkeypatch.setattr(sys, "argv", ["serving", "--port", "1", *arguments])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 2
    said = capsys.readouterr().err.strip()
    assert words in said
    assert len(said.splitlines()) == 1

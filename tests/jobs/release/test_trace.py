"""From a slate to what made it, and back."""

import json

import pytest

from contracts.errors import UsageError
from jobs.release import promote, trace


def land(settings, rows: list[dict]) -> None:
    folder = settings.landing / "2026-04-01"
    folder.mkdir(parents=True)
    (folder / "impressions.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (folder / "_landed.json").write_text(json.dumps({"format_version": 1, "source": "test", "first": "2026-04-01", "last": "2026-04-01", "tables": {}}))


def shown(slate: str, position: int, release: str | None) -> dict:
    return {"event_id": f"{slate}-{position}", "event_time": "2026-04-01T10:00:00Z", "slate_id": slate, "profile_id": "p1",
            "title_id": f"t{position}", "position": position, "release_id": release}


def test_a_slate_leads_to_its_release_and_back(settings, make):
    manifest = make("r1")
    promote.ask(settings, "r1")
    land(settings, [shown("s1", 2, "r1"), shown("s1", 1, "r1"), shown("s2", 1, "r1"), shown("s3", 1, "lost")])
    found = json.loads(trace.run(settings, "s1", as_json=True))
    assert found["slate"]["titles"] == ["t1", "t2"]
    assert (found["release"]["release_id"], found["release"]["payload_digest"]) == ("r1", manifest.payload.payload_digest)
    assert found["release"]["gates"]["verdict"] == "passed"
    assert found["release"]["data"]["tag"] == "nightly_2026-03-31"
    assert "query_tower.onnx" in found["release"]["models"]
    assert "release r1" in trace.run(settings, "s1", as_json=False)
    assert json.loads(trace.run(settings, "r1", as_json=True))["slates"] == {"count": 2, "by_day": {"2026-04-01": 2}, "some": ["s1", "s2"]}


def test_a_release_that_is_not_known_is_said(settings, make):
    land(settings, [shown("s3", 1, "lost")])
    assert "lost, which the ledger does not know" in trace.run(settings, "s3", as_json=False)


def test_an_unknown_name_is_wrong_use(settings):
    settings.landing.mkdir(parents=True)
    with pytest.raises(UsageError, match="no slate and no release"):
        trace.run(settings, "nothing", as_json=False)

"""What people and machines read of releases."""

import json

import pytest

from contracts.errors import UsageError
from jobs.release import inspect, promote


def test_an_empty_ledger_says_what_to_do(settings):
    assert "no release yet" in inspect.list_releases(settings, as_json=False)
    assert json.loads(inspect.list_releases(settings, as_json=True)) == []


def test_list_and_show(settings, make):
    manifest = make("r1")
    make("r2", verdict="blocked", flavour=1.0)
    promote.ask(settings, "r1")
    rows = json.loads(inspect.list_releases(settings, as_json=True))
    assert [(r["release_id"], r["state"], r["live"]) for r in rows] == [("r1", "awaiting_approval", False), ("r2", "blocked", False)]
    assert "awaiting_approval" in inspect.list_releases(settings, as_json=False)
    shown = json.loads(inspect.show(settings, "r1", as_json=True))
    assert shown["payload_digest"] == manifest.payload.payload_digest
    assert shown["transitions"][-1]["to_state"] == "awaiting_approval"
    assert shown["gates"]["verdict"] == "passed"
    text = inspect.show(settings, "r1", as_json=False)
    assert manifest.evidence_digest in text
    assert "waits for a person" in text


def test_diff_names_what_differs_and_nothing_else(settings, make):
    make("r1")
    make("r2", flavour=1.0)
    found = json.loads(inspect.diff(settings, "r1", "r2", as_json=True))["differs"]
    assert set(found) == {"files.titles.parquet", "files.spec.json"}
    assert "files.titles.parquet" in inspect.diff(settings, "r1", "r2", as_json=False)
    assert "differ in nothing" in inspect.diff(settings, "r1", "r1", as_json=False)


def test_a_release_that_has_only_begun_can_be_shown(settings, ledger):
    ledger.begin("r0", "2026-03-31", "begin")
    assert json.loads(inspect.show(settings, "r0", as_json=True))["files"] == {}
    assert "building" in inspect.show(settings, "r0", as_json=False)


def test_an_unknown_release_is_wrong_use(settings):
    with pytest.raises(UsageError, match="no release 'r9'"):
        inspect.show(settings, "r9", as_json=False)


def test_show_says_whose_models_and_how_the_release_did_live(settings, ledger, make):
    make("r1")
    ledger.keep_live_quality("r1", "2026-04-01", "control", {"recall_at_200": 0.61237, "ndcg_at_10": 0.2})
    text = inspect.show(settings, "r1", as_json=False)
    assert "trained by this release" in text
    assert "2026-04-01" in text
    assert "0.6124" in text
    assert json.loads(inspect.show(settings, "r1", as_json=True))["live_quality"][0]["figures"]["ndcg_at_10"] == 0.2

"""An index refresh without a person: only live's models, only where configured, and never past a gate or a probe."""

import pytest

from contracts import release as names
from contracts.errors import MarqueeError
from contracts.release import Manifest, State
from jobs.release import ask, files, retraining, unattended
from tests.jobs.release.test_retraining import go_live


@pytest.fixture
def refresh(settings, ledger, make, replicas, api):
    """r1 is live, r2 refreshes it and was judged; one replica follows; the setting is on."""
    settings.unattended_refresh = True
    replicas("one")
    make("r1")
    go_live(ledger, "r1")
    make("r2", compared_with="r1", flavour=1.0)
    _rewrite(settings, "r2", refresh=retraining.refreshed(settings, "r1"))


def _rewrite(settings, release: str, **update) -> None:
    found = files.provenance(settings, release).model_copy(update=update)
    (settings.releases / release / names.PROVENANCE).write_text(found.model_dump_json())


def test_it_goes_live_and_the_ledger_says_that_nobody_looked(settings, ledger, refresh, api):
    assert unattended.run(settings, "r2")["outcome"] == "live"
    assert ledger.pointer().release_id == "r2"
    assert ledger.get("r1").state == State.RETIRED
    swapped = next(t for t in ledger.transitions("r2") if t.to_state == State.PROBING)
    assert swapped.actor == "unattended refresh"
    assert "no person was asked" in swapped.reason
    assert swapped.details["unattended"] is True
    assert swapped.details["refresh_of"] == "r1"
    assert swapped.details["payload_digest"] == files.manifest(settings, "r2").payload.payload_digest
    count = len(ledger.transitions("r2"))
    assert unattended.run(settings, "r2")["outcome"] == "live", "a rerun finds it live"
    assert len(ledger.transitions("r2")) == count


@pytest.mark.parametrize(("spoil", "why"), [
    ("setting", "MARQUEE_UNATTENDED_REFRESH is not set"), ("trained", "its models are new"), ("gate", "gates failed: recall"),
    ("base", "is not the live release"), ("model", "ranker.txt is not live's"), ("question", "the question of r3 waits"),
])
def test_a_person_is_asked(settings, ledger, refresh, make, spoil, why):
    if spoil == "setting":
        settings.unattended_refresh = False
    elif spoil == "trained":
        _rewrite(settings, "r2", refresh=None)
    elif spoil == "gate":
        path = settings.releases / "r2" / names.MANIFEST
        manifest = Manifest.model_validate_json(path.read_text())
        path.write_text(manifest.model_copy(update={"verdict": "blocked", "failed_gates": ["recall"]}).model_dump_json())
    elif spoil == "base":
        make("r3", compared_with="r1", flavour=2.0)
        go_live_from_judged(ledger, "r3")
    elif spoil == "model":
        path = settings.releases / "r1" / names.PAYLOAD
        payload = files.payload(settings, "r1")
        other = payload.files["ranker.txt"].model_copy(update={"sha256": "0" * 64})
        path.write_text(payload.model_copy(update={"files": payload.files | {"ranker.txt": other}}).model_dump_json())
    else:
        make("r3", compared_with="r1", flavour=2.0)
        ask.ask(settings, "r3")
    live = ledger.pointer()
    found = unattended.run(settings, "r2")
    assert found["outcome"] == "ask"
    assert why in found["reason"]
    assert ledger.pointer() == live


def go_live_from_judged(ledger, release: str) -> None:
    from datetime import UTC, datetime, timedelta

    ledger.move(release, State.AWAITING_APPROVAL, "test")
    pointer = ledger.propose(release, ledger.pointer().version)
    ledger.confirm(ledger.switch(pointer.version, datetime.now(UTC) + timedelta(minutes=5)).version)


def test_files_that_changed_after_the_gates_are_refused(settings, ledger, refresh):
    (settings.releases / "r2" / names.FALLBACK).write_bytes(b"torn")
    with pytest.raises(MarqueeError, match=r"torn: fallback\.parquet differ"):
        unattended.run(settings, "r2")
    assert ledger.pointer().release_id == "r1"


def test_a_bad_shelf_takes_it_back(settings, ledger, refresh, api, monkeypatch):
    api.titles = ["t3"]
    monkeypatch.setattr("jobs.release.probe.probe.__defaults__", (0.5,))
    with pytest.raises(MarqueeError, match="rolled back"):
        unattended.run(settings, "r2")
    assert ledger.pointer().release_id == "r1"
    assert ledger.get("r2").state == State.ROLLED_BACK


def test_its_own_question_is_a_persons(settings, ledger, airflow, refresh):
    """Asked about in an earlier run: open, then rejected and not recorded yet."""
    ask.ask(settings, "r2")
    airflow.ask(files.manifest(settings, "r2"))
    for answer in (lambda: None, lambda: airflow.answer(chosen="Reject", who="approver2", reason="no")):
        answer()
        found = unattended.run(settings, "r2")
        assert found["outcome"] == "ask"
        assert "a person was asked in run asset_triggered__one" in found["reason"]
    airflow.detail, settings.airflow_url = None, "http://127.0.0.1:9"
    assert "is not known" in unattended.run(settings, "r2")["reason"]
    assert ledger.pointer().release_id == "r1"


@pytest.mark.parametrize("point", ["propose", "switch", "confirm"])
def test_a_kill_at_any_point(settings, ledger, airflow, refresh, monkeypatch, point):
    with monkeypatch.context() as killed:
        def kill(*_, **__):
            raise KeyboardInterrupt

        killed.setattr(f"ledger.Ledger.{point}", kill)
        with pytest.raises(KeyboardInterrupt):
            unattended.run(settings, "r2")
    assert unattended.run(settings, "r2")["outcome"] == "live"
    assert ledger.pointer().release_id == "r2"
    assert [t.to_state for t in ledger.transitions("r2")].count(State.PROBING) == 1

"""Leases: a replica counts while it says so."""

import time
from datetime import UTC, datetime, timedelta

import pytest

from contracts.release import State
from ledger import Ledger


def test_a_replica_says_what_it_has_loaded(ledger: Ledger):
    ledger.heartbeat("one", "http://127.0.0.1:1", ["a"], "a")
    ledger.heartbeat("one", "http://127.0.0.1:1", ["a", "b"], "a")
    ledger.heartbeat("two", "http://127.0.0.1:2", [], None)
    one, two = ledger.replicas()
    assert (one.replica_id, one.loaded, one.serving) == ("one", ["a", "b"], "a")
    assert (two.replica_id, two.loaded, two.serving) == ("two", [], None)


def test_a_lease_runs_out_and_a_leaver_is_gone(ledger: Ledger):
    ledger.heartbeat("slow", "http://127.0.0.1:1", [], None, lease_seconds=0.05)
    ledger.heartbeat("leaver", "http://127.0.0.1:2", [], None)
    time.sleep(0.06)
    assert [r.replica_id for r in ledger.replicas()] == ["leaver"]
    ledger.leave("leaver")
    assert ledger.replicas() == []


def test_leases_and_deadlines_go_by_the_databases_clock(ledger: Ledger, monkeypatch):
    if ledger.engine.dialect.name != "postgresql":
        pytest.skip("SQLite's clock is this machine's")

    class Fast(datetime):
        @classmethod
        def now(cls, zone=None):
            return datetime.now(zone) + timedelta(minutes=4)

    ledger.begin("r1", "2026-03-31", "test")
    for state in (State.BUILT, State.JUDGED, State.AWAITING_APPROVAL):
        ledger.move("r1", state, "test")
    ledger.switch(ledger.propose("r1", 0).version, ledger.wall() + timedelta(minutes=3))
    for module in ("ledger.ledger", "ledger.database"):
        monkeypatch.setattr(f"{module}.datetime", Fast)
    ledger.heartbeat("fast", "http://127.0.0.1:1", [], None)
    assert ledger.replicas()[0].expires_at < datetime.now(UTC) + timedelta(seconds=30)
    assert ledger.resolve_overdue("fast") is None

"""Leases: a replica counts while it says so."""

import time

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

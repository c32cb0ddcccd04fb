"""What nights leave in the ledger: figures that are written once, decisions that may be taken again."""

import pytest

from ledger import Ledger, UnknownRelease


def test_live_quality_is_written_once(ledger: Ledger):
    ledger.begin("r1", "2026-03-30", "begin")
    first = ledger.keep_live_quality("r1", "2026-03-31", "control", {"recall": 0.5})
    assert ledger.keep_live_quality("r1", "2026-03-31", "control", {"recall": 0.9}) == first
    ledger.keep_live_quality("r1", "2026-03-31", "other", {"recall": 0.4})
    ledger.keep_live_quality("r1", "2026-03-30", "control", {"recall": 0.6})
    assert [(q.ds, q.arm, q.figures["recall"]) for q in ledger.live_quality("r1")] == [
        ("2026-03-30", "control", 0.6), ("2026-03-31", "control", 0.5), ("2026-03-31", "other", 0.4)]


def test_live_quality_is_of_a_known_release(ledger: Ledger):
    with pytest.raises(UnknownRelease):
        ledger.keep_live_quality("nobody", "2026-03-31", "control", {})
    assert ledger.live_quality() == []


def test_a_decision_may_be_taken_again(ledger: Ledger):
    ledger.begin("r1", "2026-03-30", "begin")
    assert ledger.decision("2026-03-31") is None
    ledger.decide("2026-03-31", "refresh", "r1", "young enough", "policy")
    decided = ledger.decide("2026-03-31", "retrain", None, "asked for", "ada")
    assert ledger.decision("2026-03-31") == decided
    assert (decided.action, decided.base, decided.actor) == ("retrain", None, "ada")


def test_every_arm_with_a_pointer(ledger: Ledger):
    assert ledger.arms() == []
    ledger.begin("r1", "2026-03-30", "begin")
    ledger.propose("r1", 0, "b")
    ledger.propose("r1", 0)
    assert ledger.arms() == ["b", "control"]

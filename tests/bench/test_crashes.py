"""The fast subset of bench/swaps and bench/kills: real processes, few points; the whole runs are 1,000 swaps and 200 kills."""

import json

import pytest

from bench import kills, swaps
from bench.recompute import Recomputed, computed_by
from bench.swaps import ONE, OTHER


@pytest.fixture(autouse=True)
def members_without_feast(monkeypatch):
    """Online rows take Feast's imports: here, as in production after a loss of them, everybody is a stranger."""
    monkeypatch.setattr(swaps, "ONLINE_MEMBERS", {})
    monkeypatch.setattr("bench.homes.Home.members", lambda home: None)


def test_swaps_under_load_fail_nothing_and_mix_nothing(tmp_path):
    out = tmp_path / "results.jsonl"
    found = swaps.run(tmp_path / "home", out, swaps=20, seed=7, clients=2, pace=5, replicas=1, steady_seconds=1)
    assert (found["swaps"], found["failed"], found["disagree"]) == (20, 0, 0)
    assert found["requests"] > 20
    assert found["swap_worst_s"] < 30
    assert {row["to"] for row in map(json.loads, out.read_text().splitlines()) if row["kind"] == "swap"} == {ONE, OTHER}


def test_kills_leave_nothing_torn(tmp_path):
    out = tmp_path / "results.jsonl"
    found = kills.run(tmp_path / "home", out, points=8, seed=7, training=None, only=["ledger", "swap", "launch", "collect"])
    assert found["points"] >= 8
    assert (found["broken"], found["failed"], found["disagree"]) == ([], 0, 0)


def test_a_mixed_answer_is_seen(tmp_path):
    """One release's scores under another's label, and an answer of two releases' parts."""
    home = swaps.Home.make(tmp_path, 7)
    try:
        for release, seed in ((ONE, 1), (OTHER, 2)):
            home.release(release, seed, vectors=False)
        known, eligible = swaps.known("stranger", "de"), home.catalogue.eligibility()
        releases = {name: Recomputed(home.settings.releases / name) for name in (ONE, OTHER)}
        moment = swaps.NOW
        shelves = {name: release.scores(known, moment, "tv", eligible) for name, release in releases.items()}

        def answer(scores: dict) -> dict:
            return {"generated_at": moment.isoformat(), "titles": [
                {"title_id": title, "source": "retrieval", "score": r, "retrieval_score": n, "transition_score": v, "cowatch_score": c}
                for title, (r, n, v, c) in scores.items()]}

        assert computed_by(answer(shelves[ONE]), known, "tv", releases, eligible) == [ONE]
        assert computed_by(answer(shelves[OTHER]), known, "tv", releases, eligible) == [OTHER]
        both = sorted(set(shelves[ONE]) & set(shelves[OTHER]))
        mixed = {title: (shelves[ONE][title][0], shelves[OTHER][title][1], *shelves[ONE][title][2:]) for title in both}
        assert computed_by(answer(mixed), known, "tv", releases, eligible) == []
    finally:
        home.stop()

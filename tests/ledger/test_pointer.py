"""The live pointer: one winner of each compare-and-swap, and states that move with it or not at all."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from contracts.release import State
from contracts.settings import Settings
from ledger import ForbiddenTransition, Ledger, StaleVersion
from tests.ledger.ledger_workers import at_once, count_up

TO_APPROVAL = (State.BUILT, State.JUDGED, State.AWAITING_APPROVAL)


def approved(ledger: Ledger, *release_ids: str) -> None:
    """Releases as far as a person's answer."""
    for release_id in release_ids:
        ledger.begin(release_id, "2026-03-31", "begin")
        for state in TO_APPROVAL:
            ledger.move(release_id, state, "test")


def soon(seconds: float = 60) -> datetime:
    return datetime.now(UTC) + timedelta(seconds=seconds)


def go_live(ledger: Ledger, release_id: str) -> None:
    pointer = ledger.pointer()
    proposed = ledger.propose(release_id, pointer.version if pointer else 0)
    ledger.confirm(ledger.switch(proposed.version, soon()).version)


def state(ledger: Ledger, release_id: str) -> State:
    return ledger.get(release_id).state


def test_the_first_release_goes_live(ledger: Ledger):
    approved(ledger, "a")
    assert ledger.pointer() is None
    proposed = ledger.propose("a", 0)
    assert (proposed.release_id, proposed.candidate, proposed.phase) == (None, "a", "live")
    probing = ledger.switch(proposed.version, soon(), actor="approver1", reason="better", details={"run": "r"})
    assert (probing.release_id, probing.candidate, probing.phase, probing.previous) == ("a", None, "probing", None)
    assert probing.deadline > datetime.now(UTC)
    live = ledger.confirm(probing.version)
    assert (live.release_id, live.phase, live.deadline) == ("a", "live", None)
    assert state(ledger, "a") == State.LIVE
    switched = ledger.transitions("a")[-2]
    assert (switched.actor, switched.reason, switched.details) == ("approver1", "better", {"run": "r"})


def test_the_release_before_retires(ledger: Ledger):
    approved(ledger, "a", "b")
    go_live(ledger, "a")
    go_live(ledger, "b")
    assert (ledger.pointer().release_id, ledger.pointer().previous) == ("b", "a")
    assert (state(ledger, "a"), state(ledger, "b")) == (State.RETIRED, State.LIVE)


def test_a_failed_probe_returns_to_the_release_before(ledger: Ledger):
    approved(ledger, "a", "b")
    go_live(ledger, "a")
    probing = ledger.switch(ledger.propose("b", ledger.pointer().version).version, soon())
    assert state(ledger, "a") == State.LIVE
    back = ledger.revert(probing.version, reason="the API answered 500")
    assert (back.release_id, back.phase) == ("a", "live")
    assert (state(ledger, "a"), state(ledger, "b")) == (State.LIVE, State.ROLLED_BACK)


def test_after_a_failed_probe_the_way_back_is_where_it_was(ledger: Ledger):
    """A second failure, and a roll-back that does not come through, do not lose or change it."""
    approved(ledger, "z", "a", "b", "c")
    go_live(ledger, "z")
    go_live(ledger, "a")
    for release in ("b", "c", "z"):
        back = ledger.revert(ledger.switch(ledger.propose(release, ledger.pointer().version).version, soon()).version)
        assert (back.release_id, back.previous) == ("a", "z")
        assert back == ledger.pointer()


def test_the_way_back_is_the_release_that_left_last_whatever_was_tried_since(ledger: Ledger):
    approved(ledger, "y", "z", "a")
    for release in ("y", "z", "a"):
        go_live(ledger, release)
    assert ledger.retired() == ["z", "y"]
    ledger.revert(ledger.switch(ledger.propose("y", ledger.pointer().version).version, soon()).version)
    ledger.note("y", "swap", "refused: release y is retired")
    assert ledger.retired() == ["z", "y"]
    assert ledger.last_move("y").to_state == State.RETIRED != ledger.last_move("y").from_state


def test_a_roll_back_swaps_the_two(ledger: Ledger):
    approved(ledger, "a", "b")
    go_live(ledger, "a")
    go_live(ledger, "b")
    go_live(ledger, "a")
    assert (state(ledger, "a"), state(ledger, "b")) == (State.LIVE, State.ROLLED_BACK)


def test_a_roll_back_that_fails_leaves_its_target_retired(ledger: Ledger):
    approved(ledger, "a", "b")
    go_live(ledger, "a")
    go_live(ledger, "b")
    probing = ledger.switch(ledger.propose("a", ledger.pointer().version).version, soon())
    ledger.revert(probing.version)
    assert (state(ledger, "a"), state(ledger, "b")) == (State.RETIRED, State.LIVE)


def test_only_an_approved_release_can_be_switched_to_and_nothing_moves(ledger: Ledger):
    ledger.begin("a", "2026-03-31", "begin")
    proposed = ledger.propose("a", 0)
    with pytest.raises(ForbiddenTransition):
        ledger.switch(proposed.version, soon())
    assert ledger.pointer() == proposed, "the pointer did not move without its state"


def test_a_withdrawn_proposal_is_gone(ledger: Ledger):
    approved(ledger, "a")
    proposed = ledger.propose("a", 0)
    withdrawn = ledger.withdraw(proposed.version)
    assert withdrawn.candidate is None
    with pytest.raises(StaleVersion):
        ledger.switch(proposed.version, soon())


@pytest.mark.parametrize("step", ["propose", "switch", "confirm", "revert", "withdraw"])
def test_every_step_refuses_a_version_that_passed(ledger: Ledger, step: str):
    approved(ledger, "a")
    go_live(ledger, "a")
    before = ledger.pointer()
    steps = {
        "propose": lambda v: ledger.propose("a", v), "switch": lambda v: ledger.switch(v, soon()),
        "confirm": lambda v: ledger.confirm(v), "revert": lambda v: ledger.revert(v), "withdraw": lambda v: ledger.withdraw(v),
    }
    for version in (0, before.version - 1, before.version + 1):
        with pytest.raises(StaleVersion, match=r"moved|candidate"):
            steps[step](version)
    assert ledger.pointer() == before


def test_an_overdue_probe_is_reverted_once_by_whoever_comes(ledger: Ledger):
    approved(ledger, "a", "b")
    go_live(ledger, "a")
    ledger.switch(ledger.propose("b", ledger.pointer().version).version, soon(60))
    assert ledger.resolve_overdue("launches") is None, "not overdue yet"
    ledger.revert(ledger.pointer().version)
    approved(ledger, "c")
    ledger.switch(ledger.propose("c", ledger.pointer().version).version, soon(-1))
    with ThreadPoolExecutor(4) as pool:
        resolved = [p for p in pool.map(lambda _: ledger.resolve_overdue("launches"), range(4)) if p]
    assert len(resolved) == 1
    assert (ledger.pointer().release_id, state(ledger, "c")) == ("a", State.ROLLED_BACK)


def test_one_of_many_threads_wins_each_version(ledger: Ledger):
    names = [f"r{i}" for i in range(8)]
    approved(ledger, "first", *names)
    go_live(ledger, "first")
    version, barrier = ledger.pointer().version, threading.Barrier(len(names))

    def attempt(name: str) -> str | None:
        barrier.wait()
        try:
            return ledger.propose(name, version).candidate
        except StaleVersion:
            return None

    with ThreadPoolExecutor(len(names)) as pool:
        winners = [name for name in pool.map(attempt, names) if name]
    assert len(winners) == 1
    assert ledger.pointer().candidate == winners[0]
    assert ledger.pointer().version == version + 1


def test_no_swap_is_lost_between_processes(home: Settings, ledger: Ledger):
    approved(ledger, "first", "a", "b", "c")
    go_live(ledger, "first")
    before = ledger.pointer().version
    assert at_once(count_up, [(home, name, 15) for name in "abc"]) == [0, 0, 0]
    assert ledger.pointer().version == before + 3 * 15

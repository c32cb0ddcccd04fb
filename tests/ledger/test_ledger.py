"""States and history: what may follow what, and that the two never part."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as rules
from hypothesis import strategies as st

from contracts import clock
from contracts.release import State
from ledger import ForbiddenTransition, Ledger, UnknownRelease
from ledger.states import ALLOWED, may_follow

STATES = st.sampled_from(list(State))


def test_a_release_enters_once_and_finds_itself(ledger: Ledger):
    first = ledger.begin("r1", "2026-03-31", "begin")
    ledger.move("r1", State.BUILT, "seal")
    again = ledger.begin("r1", "2026-03-31", "begin")
    assert first.state == State.BUILDING
    assert again.state == State.BUILT, "a rerun finds the release as it is"
    assert [t.to_state for t in ledger.transitions("r1")] == [State.BUILDING, State.BUILT]


def test_a_failed_release_builds_again(ledger: Ledger):
    ledger.begin("r1", "2026-03-31", "begin")
    ledger.move("r1", State.FAILED, "towers", "out of memory")
    assert ledger.begin("r1", "2026-03-31", "begin").state == State.BUILDING


def test_moving_to_the_same_state_again_writes_nothing(ledger: Ledger):
    ledger.begin("r1", "2026-03-31", "begin")
    ledger.move("r1", State.BUILT, "seal", "done", {"files": 8})
    ledger.move("r1", State.BUILT, "seal", "done again")
    last = ledger.transitions("r1")[-1]
    assert (last.actor, last.reason, last.details) == ("seal", "done", {"files": 8})
    assert len(ledger.transitions("r1")) == 2


def test_unknown_releases_are_named(ledger: Ledger):
    assert ledger.get("nobody") is None
    with pytest.raises(UnknownRelease, match="nobody"):
        ledger.move("nobody", State.BUILT, "seal")
    with pytest.raises(UnknownRelease):
        ledger.propose("nobody", 0)


def test_times_are_the_homes_present(home, ledger: Ledger):
    clock.set_now(home.home, datetime(2026, 4, 1, 6, tzinfo=UTC))
    row = ledger.begin("r1", "2026-03-31", "begin")
    assert row.created_at.date().isoformat() == "2026-04-01"
    assert row.created_at.tzinfo is not None


@rules(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])  # a release each
@given(path=st.lists(STATES, max_size=12))
def test_only_allowed_steps_are_taken(ledger: Ledger, path: list[State]):
    """Whatever is tried, the state is the last allowed step, and the history is a walk through allowed steps."""
    release_id = f"r{len(ledger.releases())}"
    expected = ledger.begin(release_id, "2026-03-31", "begin").state
    for wanted in path:
        if may_follow(expected, wanted):
            expected = ledger.move(release_id, wanted, "test").state
            assert expected == wanted
        else:
            with pytest.raises(ForbiddenTransition, match=f"is {expected}: it cannot become {wanted}"):
                ledger.move(release_id, wanted, "test")
    assert ledger.get(release_id).state == expected
    history = ledger.transitions(release_id)
    assert history[0].from_state is None
    for before, after in pairwise(history):
        assert after.from_state == before.to_state
        assert after.to_state in ALLOWED[after.from_state]


def test_nothing_goes_live_without_having_awaited_approval():
    """Every way to `live` goes through `awaiting_approval`."""
    reached, frontier = {State.BUILDING}, [State.BUILDING]
    while frontier:
        for state in ALLOWED[frontier.pop()] - {State.AWAITING_APPROVAL} - reached:
            reached.add(state)
            frontier.append(state)
    assert State.JUDGED in reached, "the walk looked at something"
    assert not reached & {State.PROBING, State.LIVE, State.RETIRED}


def test_every_state_has_its_line_in_the_machine():
    assert set(ALLOWED) == set(State)


def test_one_question_at_a_time_the_newest_candidates(ledger: Ledger):
    for release in ("r1", "r2", "r3"):
        ledger.begin(release, "2026-03-31", "begin")
        ledger.move(release, State.BUILT, "seal")
        ledger.move(release, State.JUDGED, "judge")
    asked = {release: ledger.ask(release, "p", "e", "r0", "judged", {"k": 1}).release_id for release in ("r2", "r1", "r3", "r3")}
    assert asked == {"r2": "r2", "r1": "r2", "r3": "r3"}
    assert [(row.release_id, str(row.state)) for row in ledger.releases()] == [("r1", "superseded"), ("r2", "superseded"), ("r3", "awaiting_approval")]
    waits = ledger.get("r3")
    assert (waits.payload_digest, waits.evidence_digest, waits.compared_with, ledger.last_move("r3").details) == ("p", "e", "r0", {"k": 1})
    assert (ledger.last_move("r1").reason, ledger.last_move("r1").details) == ("r2 is newer", {"by": "r2"})


def test_of_two_that_are_asked_about_at_once_one_waits(ledger: Ledger):
    releases = [f"r{number}" for number in range(8)]
    for release in releases:
        ledger.begin(release, "2026-03-31", "begin")
        ledger.move(release, State.BUILT, "seal")
        ledger.move(release, State.JUDGED, "judge")
    with ThreadPoolExecutor(len(releases)) as pool:
        list(pool.map(lambda release: ledger.ask(release, "p", "e", None, "judged", {}), releases))
    assert {row.release_id: row.state for row in ledger.releases()} == dict.fromkeys(releases, State.SUPERSEDED) | {"r7": State.AWAITING_APPROVAL}


def test_digests_are_set_one_by_one(ledger: Ledger):
    ledger.begin("r1", "2026-03-31", "begin")
    ledger.set_digests("r1", payload_digest="p")
    ledger.set_digests("r1", evidence_digest="e", compared_with="r0")
    row = ledger.get("r1")
    assert (row.payload_digest, row.evidence_digest, row.compared_with) == ("p", "e", "r0")
    ledger.set_digests("r1", evidence_digest="e2")
    assert ledger.get("r1").compared_with is None, "judged again, against nothing"

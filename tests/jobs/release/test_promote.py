"""From the question to a live release and back: each refusal, each kill, and where the rerun goes on."""

import time
from datetime import UTC, datetime, timedelta

import pytest

from contracts import clock
from contracts import release as names
from contracts.errors import MarqueeError, UsageError
from contracts.release import State
from jobs.release import doctor, overlay, promote, rollback, swap
from jobs.release import probe as probe_module
from jobs.release.promote import QuestionAddress
from jobs.release.refusals import says_something

QUESTION = QuestionAddress("promote", "asset_triggered__one", "approve")


def state(ledger, release: str) -> State:
    return ledger.get(release).state


def last(ledger, release: str):
    return ledger.transitions(release)[-1]


@pytest.fixture
def asked(settings, ledger, make, airflow):
    """Release r1 awaits its answer."""
    manifest = make("r1")
    promote.ask(settings, "r1")
    airflow.ask(manifest)
    return manifest


@pytest.fixture
def two(settings, ledger, make, airflow, replicas, api):
    """r1 is live, r2 awaits its answer, one replica follows."""
    replicas("one")
    promote_whole(settings, airflow, make("r1"))
    manifest = make("r2", compared_with="r1", flavour=1.0)
    promote.ask(settings, "r2")
    airflow.ask(manifest)
    return manifest


def promote_whole(settings, airflow, manifest) -> None:
    promote.ask(settings, manifest.release_id)
    airflow.ask(manifest)
    airflow.answer()
    promote.swap(settings, manifest.release_id, QUESTION)
    promote.probe(settings, manifest.release_id)


# --- ask --------------------------------------------------------------------------------------------------------------

def test_the_question_has_card_digests_and_approvers(settings, ledger, make):
    manifest = make("r1")
    question = promote.ask(settings, "r1")
    assert manifest.payload.payload_digest in question["card"]
    assert manifest.evidence_digest in question["card"]
    assert question["approvers"] == ["approver1", "approver2"]
    assert question["hours"] == settings.approval_hours
    assert state(ledger, "r1") == State.AWAITING_APPROVAL
    assert promote.ask(settings, "r1") == question, "a rerun asks the same and moves nothing"
    assert len(ledger.transitions("r1")) == 4


@pytest.mark.parametrize("name", [names.ITEM_VECTORS, names.SPEC, f"{names.EVIDENCE}/card.md", names.PAYLOAD])
def test_no_question_about_a_torn_release(settings, ledger, make, name):
    make("r1")
    path = settings.releases / "r1" / name
    path.write_bytes(path.read_bytes().replace(b"r1", b"rX") + b" ")
    with pytest.raises(MarqueeError, match=name.rpartition("/")[2].replace(".", r"\.")):
        promote.ask(settings, "r1")
    assert state(ledger, "r1") == State.JUDGED


def test_a_blocked_release_is_not_asked_about(settings, ledger, make):
    make("r1", verdict="blocked")
    with pytest.raises(MarqueeError, match="blocked by its gates: recall"):
        promote.ask(settings, "r1")


def test_live_moved_since_the_evidence(settings, ledger, make):
    make("r1", compared_with="r0")
    with pytest.raises(MarqueeError, match=r"judged against r0, and nothing is live\. Judge again"):
        promote.ask(settings, "r1")


def test_a_newer_candidate_supersedes_the_older_question(settings, ledger, make):
    make("r1")
    make("r2", flavour=1.0)
    promote.ask(settings, "r1")
    promote.ask(settings, "r2")
    assert (state(ledger, "r1"), state(ledger, "r2")) == (State.SUPERSEDED, State.AWAITING_APPROVAL)
    with pytest.raises(MarqueeError, match="superseded"):
        promote.ask(settings, "r1")
    assert state(ledger, "r2") == State.AWAITING_APPROVAL


# --- swap: what it refuses --------------------------------------------------------------------------------------------

def nothing_asked(airflow, manifest):
    airflow.detail = None


def forced_to_success(airflow, manifest):
    airflow.detail["task_instance"]["state"] = "success"


def rejected(airflow, manifest):
    airflow.answer(chosen="Reject")


def by_a_stranger(airflow, manifest):
    airflow.answer(who="mallory")


def by_a_namesake(airflow, manifest):
    airflow.answer(responded_by_user={"id": "17", "name": "approver1"})


def by_nobody(airflow, manifest):
    airflow.answer(responded_by_user=None)


def by_who_started_it(airflow, manifest):
    airflow.answer()
    airflow.dag_run["triggering_user_name"] = "approver1"


def without_reason(airflow, manifest):
    airflow.answer(reason="  ")


def without_params(airflow, manifest):
    airflow.answer(params_input={})


def too_late(airflow, manifest):
    airflow.answer(responded_at=(datetime.now(UTC) + timedelta(hours=25)).isoformat())


def too_early(airflow, manifest):
    """An answer to an earlier question on the same evidence."""
    airflow.answer(responded_at=(datetime.now(UTC) - timedelta(hours=1)).isoformat())


def other_payload(airflow, manifest):
    airflow.answer(body=f"{'0' * 64} {manifest.evidence_digest}")


def other_evidence(airflow, manifest):
    airflow.answer(body=manifest.payload.payload_digest)


def other_text(airflow, manifest):
    """Both digests, and a card that nobody judged."""
    airflow.answer(body=f"all is well {manifest.payload.payload_digest} {manifest.evidence_digest}")


def whose_night_they_started(airflow, manifest):
    airflow.answer()
    airflow.night = {"triggering_user_name": "approver1"}


def handed_over_by_hand(airflow, manifest):
    airflow.answer()
    airflow.event = {"source_dag_id": None, "source_run_id": None, "extra": {"from_rest_api": True}}


def rejected_before_it_was_cleared(airflow, manifest):
    airflow.answer()
    airflow.detail["task_instance"]["try_number"] = 2
    airflow.tries = [{"chosen_options": ["Reject"], "responded_by_user": {"id": "approver2", "name": "approver2"}}]


def rejected_in_another_run(airflow, manifest):
    airflow.answer()
    other = airflow.question(manifest, run="manual__two")
    airflow.reply_to(other, "Reject", "approver2")
    airflow.elsewhere = [other]


REFUSALS = [
    (nothing_asked, "no question was asked"), (forced_to_success, "nobody answered"), (rejected, r"\['Reject'\], not Approve"),
    (by_a_stranger, "mallory is not an approver"), (by_a_namesake, "17 is not an approver"), (by_nobody, "nobody known is not an approver"),
    (by_who_started_it, "started this run by hand"), (without_reason, "no reason"), (without_params, "no reason"),
    (too_late, "when the question had expired"), (too_early, "older than the question"), (other_text, "another text"),
    (handed_over_by_hand, "somebody unknown handed the candidate over"),
    (whose_night_they_started, "started this run by hand"), (rejected_before_it_was_cleared, "approver2 rejected it in run"),
    (rejected_in_another_run, "approver2 rejected it in run manual__two"), (other_payload, "another payload digest"), (other_evidence, "another evidence digest"),
]


@pytest.mark.parametrize(("spoil", "why"), REFUSALS, ids=[spoil.__name__ for spoil, _ in REFUSALS])
def test_an_answer_that_does_not_count(settings, ledger, airflow, asked, spoil, why):
    spoil(airflow, asked)
    with pytest.raises(MarqueeError, match=why):
        promote.swap(settings, "r1", QUESTION)
    assert ledger.pointer() is None, "nothing moved"
    assert state(ledger, "r1") == State.AWAITING_APPROVAL
    assert "refused" in last(ledger, "r1").reason
    assert last(ledger, "r1").details["run"] == QUESTION.run_id


def test_files_that_changed_after_the_question(settings, ledger, airflow, asked):
    airflow.answer()
    (settings.releases / "r1" / names.RANKER).write_text("another model")
    with pytest.raises(MarqueeError, match=r"torn: ranker\.txt"):
        promote.swap(settings, "r1", QUESTION)
    assert ledger.pointer() is None


def test_a_release_judged_again_after_the_question(settings, ledger, airflow, asked):
    from tests.jobs.release.conftest import judge

    airflow.answer()
    (settings.releases / "r1" / names.EVIDENCE / "gates.json").write_text("{}")
    ledger.move("r1", State.JUDGED, "judge")
    judge(settings, ledger, "r1", None, verdict="passed ")
    with pytest.raises(MarqueeError, match="does not await approval"):
        promote.swap(settings, "r1", QUESTION)


def test_live_that_moved_between_question_and_swap(settings, ledger, two, airflow):
    airflow.answer()
    pointer = ledger.pointer()
    ledger.begin("r9", "2026-03-30", "begin")
    for step in (State.BUILT, State.JUDGED, State.AWAITING_APPROVAL):
        ledger.move("r9", step, "test")
    probing = ledger.switch(ledger.propose("r9", pointer.version).version, datetime.now(UTC) + timedelta(minutes=1))
    ledger.confirm(probing.version)
    with pytest.raises(MarqueeError, match="live moved"):
        promote.swap(settings, "r2", QUESTION)
    assert ledger.pointer().release_id == "r9"


def test_airflow_that_is_away_or_denies(settings, ledger, airflow, asked):
    airflow.answer()
    airflow.password = "changed"
    with pytest.raises(MarqueeError, match="did not let 'marquee' in"):
        promote.swap(settings, "r1", QUESTION)
    settings.airflow_url = "http://127.0.0.1:9"
    with pytest.raises(MarqueeError, match="did not say what was answered"):
        promote.swap(settings, "r1", QUESTION)
    assert ledger.pointer() is None


def test_the_refusal_of_a_rerun_is_written_down_once(settings, ledger, airflow, asked):
    airflow.answer(who="mallory")
    for _ in range(2):
        with pytest.raises(MarqueeError, match="mallory"):
            promote.swap(settings, "r1", QUESTION)
    assert [t.actor for t in ledger.transitions("r1")].count("swap") == 1


def test_judged_and_asked_again_while_replicas_load(settings, ledger, airflow, two, monkeypatch):
    """The approval was for the evidence before."""
    from tests.jobs.release.conftest import judge

    real = swap.wait_until_loaded

    def judged_meanwhile(*args):
        done = real(*args)
        ledger.move("r2", State.JUDGED, "judge")
        judge(settings, ledger, "r2", "r1", note="looked at again")
        promote.ask(settings, "r2")
        return done

    airflow.answer()
    monkeypatch.setattr(swap, "wait_until_loaded", judged_meanwhile)
    with pytest.raises(MarqueeError, match="its approval was for other evidence"):
        promote.swap(settings, "r2", QUESTION)
    assert (ledger.pointer().release_id, state(ledger, "r2")) == ("r1", State.AWAITING_APPROVAL)


def test_a_question_elsewhere_than_in_promote_is_none(settings, ledger, airflow, asked):
    airflow.answer()
    for address in (QuestionAddress("promote", QUESTION.run_id, "evidence"), QuestionAddress("nightly", QUESTION.run_id, "approve")):
        with pytest.raises(MarqueeError, match=r"no question was asked|not where approvers are asked"):
            promote.swap(settings, "r1", address)
    assert ledger.pointer() is None


def test_the_time_of_a_question_runs_on_when_its_tasks_are_cleared(settings, ledger, airflow, asked):
    due = promote.ask(settings, "r1")["due"]
    settings.approval_hours = 48
    assert promote.ask(settings, "r1")["due"] == due, "fixed when the question was opened"


def test_time_that_is_up_closes_the_question_even_where_record_was_killed(settings, ledger, airflow, make):
    settings.approval_hours = 1e-7
    manifest = make("r1")
    promote.ask(settings, "r1")
    airflow.ask(manifest)
    assert promote.reconcile(settings) == ["r1"]
    assert state(ledger, "r1") == State.EXPIRED
    with pytest.raises(MarqueeError, match="its question is closed"):
        promote.ask(settings, "r1")
    assert "refused" in last(ledger, "r1").reason


def test_a_rejection_is_recorded_even_where_record_was_killed(settings, ledger, airflow, asked):
    assert promote.reconcile(settings) == [], "a question that waits is left alone"
    airflow.answer(chosen="Reject", who="approver2", reason="no")
    assert promote.reconcile(settings) == ["r1"]
    assert (state(ledger, "r1"), last(ledger, "r1").actor, last(ledger, "r1").reason) == (State.REJECTED, "approver2", "no")


# --- two people -------------------------------------------------------------------------------------------------------

@pytest.fixture
def pair(settings, ledger, airflow, asked):
    """Two people are needed; the first said yes."""
    settings.approvals_needed = 2
    airflow.answer()
    return asked


def test_one_of_two_is_not_enough(settings, ledger, airflow, pair):
    with pytest.raises(MarqueeError, match="no question was asked"):
        promote.swap(settings, "r1", QUESTION)
    airflow.second = airflow.question(pair, "approve_second")
    with pytest.raises(MarqueeError, match="nobody answered"):
        promote.swap(settings, "r1", QUESTION)
    airflow.reply_to(airflow.second, "Approve", "approver1")
    with pytest.raises(MarqueeError, match="approver1 answered twice"):
        promote.swap(settings, "r1", QUESTION)
    assert ledger.pointer() is None


def test_two_people_are(settings, ledger, airflow, pair):
    airflow.second = airflow.question(pair, "approve_second")
    airflow.reply_to(airflow.second, "Approve", "approver2", "me too")
    assert promote.swap(settings, "r1", QUESTION)["approver"] == "approver1 and approver2"
    switched = last(ledger, "r1")
    assert (switched.reason, switched.details["second"]["responder"]) == ("better everywhere; me too", "approver2")


def test_the_second_may_say_no(settings, ledger, airflow, pair):
    airflow.second = airflow.question(pair, "approve_second")
    airflow.reply_to(airflow.second, "Reject", "approver2", "kids")
    with pytest.raises(MarqueeError, match="not Approve"):
        promote.swap(settings, "r1", QUESTION)
    assert promote.record(settings, "r1", QUESTION)["who"] == "approver2"


# --- swap: what it does -----------------------------------------------------------------------------------------------

def test_a_good_answer_goes_live(settings, ledger, airflow, asked, replicas, api):
    replicas("one")
    replicas("two")
    airflow.answer(reason="better everywhere")
    assert promote.swap(settings, "r1", QUESTION)["state"] == State.PROBING
    switched = last(ledger, "r1")
    assert (switched.actor, switched.reason) == ("approver1", "better everywhere")
    assert switched.details["payload_digest"] == asked.payload.payload_digest
    assert switched.details["replicas"] == ["one", "two"]
    assert promote.probe(settings, "r1")["state"] == State.LIVE
    assert sorted(api.asked) == ["probe-nl-adult", "probe-nl-kids"]
    assert ledger.pointer().phase == "live"
    recorded = promote.record(settings, "r1", QUESTION)
    assert (recorded["who"], recorded["why"], recorded["state"]) == ("approver1", "better everywhere", State.LIVE)
    assert recorded["when"]


def test_everything_again_changes_nothing(settings, ledger, airflow, two):
    airflow.answer()
    promote.swap(settings, "r2", QUESTION)
    promote.probe(settings, "r2")
    promote.record(settings, "r2", QUESTION)
    before = (ledger.pointer(), ledger.transitions("r2"))
    assert promote.ask(settings, "r2")["state"] == State.LIVE
    assert promote.swap(settings, "r2", QUESTION)["changed"] is False
    assert promote.probe(settings, "r2")["state"] == State.LIVE
    assert promote.record(settings, "r2", QUESTION)["state"] == State.LIVE
    assert (ledger.pointer(), ledger.transitions("r2")) == before
    assert state(ledger, "r1") == State.RETIRED


def test_a_replica_that_cannot_load_it_stops_the_swap_and_the_rerun_tries_again(settings, ledger, airflow, two, replicas):
    stuck = replicas("stuck", stuck=True)
    airflow.answer()
    with pytest.raises(MarqueeError, match=r"not loaded within 0\.3 s by stuck"):
        swap.swap(settings, "r2", QUESTION, load_seconds=0.3)
    assert (ledger.pointer().release_id, ledger.pointer().candidate) == ("r1", None)
    assert state(ledger, "r2") == State.FAILED
    with pytest.raises(MarqueeError, match="failed: not loaded"):
        promote.record(settings, "r2", QUESTION)
    stuck.stuck = False
    assert promote.swap(settings, "r2", QUESTION)["state"] == State.PROBING


@pytest.fixture
def failed(settings, ledger, airflow, two, replicas):
    """r2 was approved, and a replica could not load it."""
    stuck = replicas("stuck", stuck=True)
    airflow.answer()
    with pytest.raises(MarqueeError, match="not loaded"):
        swap.swap(settings, "r2", QUESTION, load_seconds=0.1)
    stuck.stuck = False


def test_the_approval_of_a_swap_that_failed_does_not_hold_for_ever(settings, ledger, failed):
    clock.set_now(settings.home, clock.now(settings.home) + timedelta(hours=2))
    with pytest.raises(MarqueeError, match="too long ago for its approval to hold"):
        promote.swap(settings, "r2", QUESTION)
    assert state(ledger, "r2") == State.FAILED


def test_a_swap_that_failed_is_not_tried_again_past_a_newer_question(settings, ledger, failed, make):
    manifest = make("r3", "r1")
    promote.ask(settings, manifest.release_id)
    with pytest.raises(MarqueeError, match="r3 waits for its answer"):
        promote.swap(settings, "r2", QUESTION)
    assert (state(ledger, "r2"), state(ledger, "r3")) == (State.FAILED, State.AWAITING_APPROVAL)


def test_a_rejection_on_a_later_page_counts(settings, ledger, airflow, asked):
    other = {**airflow.question(asked), "task_instance": {**airflow.detail["task_instance"], "dag_run_id": "other"}}
    airflow.elsewhere = [dict(other) for _ in range(120)]
    rejected = dict(other, task_instance=dict(other["task_instance"]))
    airflow.reply_to(rejected, "Reject", "approver2")
    airflow.elsewhere.append(rejected)
    airflow.answer()
    with pytest.raises(MarqueeError, match="approver2 rejected it in run other"):
        promote.swap(settings, "r1", QUESTION)


@pytest.mark.parametrize(("reason", "says"), [("", False), (" \n", False), ("\u200b\u2060", False), ("\0", False), ("ok", True), ("良い", True), ("+1", True)])
def test_a_reason_has_something_to_read(reason, says):
    assert says_something(reason) == says


def test_a_replica_that_hangs_behind_the_address_is_asked_past(settings, ledger, airflow, two, api, monkeypatch):
    monkeypatch.setattr(probe_module, "ANSWER_SECONDS", 0.3)
    answers, hang = api.reply, iter([1.0])
    monkeypatch.setattr(api, "reply", lambda *request: (time.sleep(next(hang, 0)), answers(*request))[1])
    airflow.answer()
    promote.swap(settings, "r2", QUESTION)
    promote.probe(settings, "r2")
    assert state(ledger, "r2") == State.LIVE


def test_without_any_replica_it_says_so(settings, ledger, airflow, asked):
    airflow.answer()
    promote.swap(settings, "r1", QUESTION)
    assert last(ledger, "r1").details["warning"] == "no replica held a lease"


class Killed(BaseException):
    """What a kill looks like from inside."""


@pytest.mark.parametrize("point", ["verify", "fetch", "propose", "wait", "switch", "after switch"])
def test_a_kill_at_any_point_of_the_swap(settings, ledger, airflow, two, monkeypatch, point):
    """Live serves on, and the rerun ends where it would have ended."""
    from ledger import Ledger

    airflow.answer()
    target, name = {
        "verify": (swap.files, "verify"), "fetch": (swap, "fetch"), "propose": (Ledger, "propose"),
        "wait": (swap, "wait_until_loaded"), "switch": (Ledger, "switch"), "after switch": (Ledger, "switch"),
    }[point]
    original = getattr(target, name)

    def die(*args, **more):
        if point == "after switch":
            original(*args, **more)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(target, name, die)
        with pytest.raises(Killed):
            promote.swap(settings, "r2", QUESTION)
    assert ledger.pointer().release_id == ("r2" if point == "after switch" else "r1")
    assert promote.swap(settings, "r2", QUESTION)["state"] == State.PROBING
    assert promote.probe(settings, "r2")["state"] == State.LIVE
    assert (state(ledger, "r1"), state(ledger, "r2")) == (State.RETIRED, State.LIVE)
    assert [t.to_state for t in ledger.transitions("r2")].count(State.PROBING) == 1


def test_a_probe_that_never_came_is_undone(settings, ledger, airflow, two, monkeypatch):
    airflow.answer()
    monkeypatch.setattr(swap, "PROBE_SECONDS", -1.0)
    promote.swap(settings, "r2", QUESTION)
    with pytest.raises(MarqueeError, match="rolled_back, not probing: the probe did not end"):
        promote.probe(settings, "r2")
    assert (ledger.pointer().release_id, state(ledger, "r1"), state(ledger, "r2")) == ("r1", State.LIVE, State.ROLLED_BACK)
    with pytest.raises(MarqueeError, match="rolled_back"):
        promote.record(settings, "r2", QUESTION)


# --- probe ------------------------------------------------------------------------------------------------------------

def status_500(api):
    api.status = 500


def empty(api):
    api.titles = []


def above_the_limit(api):
    api.titles = ["t1", "t3"]


def another_release(api):
    api.serving = lambda: "r1"


def unknown_title(api):
    api.titles = ["t1", "stranger"]


@pytest.mark.parametrize(("spoil", "why"), [
    (status_500, "answered 500"), (empty, "is empty, but 2 titles are eligible"), (above_the_limit, "shows t3: no_licence"),
    (another_release, "of release r1, not r2"), (unknown_title, "shows stranger: unknown_title"),
])
def test_a_bad_shelf_rolls_back(settings, ledger, airflow, two, api, spoil, why):
    from jobs.release.probe import probe

    airflow.answer()
    promote.swap(settings, "r2", QUESTION)
    spoil(api)
    with pytest.raises(MarqueeError, match=f"rolled back.*{why}"):
        probe(settings, "r2", try_seconds=0.5)
    assert (ledger.pointer().release_id, state(ledger, "r2"), state(ledger, "r1")) == ("r1", State.ROLLED_BACK, State.LIVE)
    assert why.split(" ")[0] in last(ledger, "r2").reason
    with pytest.raises(MarqueeError, match="rolled_back"):
        promote.record(settings, "r2", QUESTION)


def test_a_replica_that_does_not_switch_rolls_back(settings, ledger, airflow, two, replicas):
    from jobs.release.probe import probe

    airflow.answer()
    promote.swap(settings, "r2", QUESTION)
    late = replicas("late", stuck=True)
    assert late.serving is None
    with pytest.raises(MarqueeError, match="replicas late do not serve r2"):
        probe(settings, "r2", try_seconds=0.3)
    assert ledger.pointer().release_id == "r1"


def test_a_release_that_is_not_probing_is_not_probed(settings, ledger, two):
    with pytest.raises(MarqueeError, match="r2 is awaiting_approval, not probing"):
        promote.probe(settings, "r2")


# --- record -----------------------------------------------------------------------------------------------------------

def test_a_rejection_is_recorded_with_who_and_why(settings, ledger, airflow, two):
    airflow.answer(chosen="Reject", who="approver2", reason="kids coverage fell")
    for _ in range(2):
        recorded = promote.record(settings, "r2", QUESTION)
        assert (recorded["state"], recorded["who"], recorded["why"]) == (State.REJECTED, "approver2", "kids coverage fell")
        assert recorded["when"] == airflow.detail["responded_at"]
    assert ledger.pointer().release_id == "r1", "live stays live"


def test_silence_is_a_rejection_and_stays_red(settings, ledger, airflow, make):
    settings.approval_hours = 1e-7
    manifest = make("r1")
    promote.ask(settings, "r1")
    airflow.ask(manifest)
    airflow.detail["task_instance"]["state"] = "failed"
    for _ in range(2):
        with pytest.raises(MarqueeError, match="r1 is expired: nobody answered"):
            promote.record(settings, "r1", QUESTION)
    assert state(ledger, "r1") == State.EXPIRED


@pytest.mark.parametrize("forced", ["success", "failed", "skipped"])
def test_nobody_ends_a_question_by_setting_its_task(settings, ledger, airflow, two, forced):
    airflow.detail["task_instance"]["state"] = forced
    with pytest.raises(MarqueeError, match=rf"was set to {forced}\. The question is open until"):
        promote.record(settings, "r2", QUESTION)
    assert state(ledger, "r2") == State.AWAITING_APPROVAL
    assert ledger.pointer().release_id == "r1"


def test_a_question_that_still_waits_is_left_alone(settings, ledger, airflow, two):
    with pytest.raises(MarqueeError, match="still waits"):
        promote.record(settings, "r2", QUESTION)
    assert state(ledger, "r2") == State.AWAITING_APPROVAL


def test_approved_but_not_live_is_red_and_says_why(settings, ledger, airflow, two):
    airflow.answer(who="mallory")
    with pytest.raises(MarqueeError):
        promote.swap(settings, "r2", QUESTION)
    with pytest.raises(MarqueeError, match=r"not live: refused: .*mallory is not an approver"):
        promote.record(settings, "r2", QUESTION)


def test_a_question_never_asked_is_red(settings, ledger, airflow, two):
    airflow.detail = None
    with pytest.raises(MarqueeError, match="no question was asked"):
        promote.record(settings, "r2", QUESTION)
    assert state(ledger, "r2") == State.AWAITING_APPROVAL


def test_a_superseded_question_is_red_only_where_it_was_approved(settings, ledger, airflow, two, make):
    make("r3", compared_with="r1", flavour=2.0)
    promote.ask(settings, "r3")
    airflow.detail["task_instance"]["state"] = "failed"
    assert promote.record(settings, "r2", QUESTION)["state"] == State.SUPERSEDED
    airflow.answer()
    with pytest.raises(MarqueeError, match="superseded: r3 is newer"):
        promote.record(settings, "r2", QUESTION)


def test_swap_and_roll_back_bring_the_release_to_both_heads_first(settings, ledger, airflow, two, monkeypatch):
    """What landed between the build and the swap, or while the earlier release was away, is in its overlay when it serves."""
    brought, version = [], ledger.pointer().version
    monkeypatch.setattr(swap.launches.overlay, "catch_up",
                        lambda settings, ledger, release: brought.append((release, ledger.pointer().version)) or 0)
    airflow.answer()
    promote.swap(settings, "r2", QUESTION)
    assert brought == [("r2", version)]
    promote.probe(settings, "r2")
    promote.rollback(settings, None, "kids saw horror", "ann")
    assert [release for release, _ in brought] == ["r2", "r1"]


# --- roll back --------------------------------------------------------------------------------------------------------

@pytest.fixture
def both(settings, ledger, airflow, two):
    """r2 is live, r1 retired."""
    airflow.answer()
    promote.swap(settings, "r2", QUESTION)
    promote.probe(settings, "r2")


def test_rolling_back_takes_seconds_and_a_reason(settings, ledger, both):
    with pytest.raises(UsageError, match="--reason"):
        promote.rollback(settings, None, " ", "ann")
    started = time.monotonic()
    done = promote.rollback(settings, None, "kids saw horror", "ann")
    assert time.monotonic() - started < 30
    assert done == {"release_id": "r1", "state": State.LIVE, "changed": True}
    assert (state(ledger, "r1"), state(ledger, "r2")) == (State.LIVE, State.ROLLED_BACK)
    arrival = [t for t in ledger.transitions("r1") if t.to_state == State.PROBING][-1]
    assert (arrival.actor, arrival.reason) == ("ann", "kids saw horror")
    assert (last(ledger, "r2").actor, last(ledger, "r2").reason) == ("ann", "kids saw horror"), "what was taken back says by whom and why"
    assert promote.rollback(settings, None, "kids saw horror", "ann", arrival.details["rollback_run"])["changed"] is False, "the rerun finds it done"
    with pytest.raises(UsageError, match="none before it"):
        promote.rollback(settings, None, "further back", "ann")
    assert promote.rollback(settings, "r2", "it was the data", "ann")["release_id"] == "r2", "taken back by name"
    assert state(ledger, "r2") == State.LIVE


@pytest.mark.parametrize("meanwhile", ["propose", "wait_until_loaded", "switched"])
def test_of_two_roll_backs_at_once_both_end_well_and_go_one_back(settings, ledger, airflow, both, make, monkeypatch, meanwhile):
    """The other one does its whole work, or gets as far as the probe, while this one is about to."""
    promote_whole(settings, airflow, make("r3", compared_with="r2", flavour=2.0))
    place = "propose" if meanwhile == "switched" else meanwhile
    real = getattr(swap, place)

    def other_first(*arguments):
        monkeypatch.setattr(swap, place, real)
        if meanwhile == "switched":
            ledger.switch(ledger.propose("r2", ledger.pointer().version).version, ledger.wall() + timedelta(minutes=1), details={"rollback": True})
        else:
            assert promote.rollback(settings, None, "kids saw horror", "bob")["changed"] is True
        return real(*arguments)

    monkeypatch.setattr(swap, place, other_first)
    assert promote.rollback(settings, None, "kids saw horror", "ann") == {"release_id": "r2", "state": State.LIVE, "changed": False}
    assert (state(ledger, "r1"), state(ledger, "r3"), ledger.pointer().candidate) == (State.RETIRED, State.ROLLED_BACK, None)


def test_a_refusal_noted_on_an_older_release_does_not_make_it_the_way_back(settings, ledger, airflow, both, make):
    """r1, r2, r3 were live in turn; then the old run that promoted r1 is cleared."""
    promote_whole(settings, airflow, make("r3", compared_with="r2", flavour=2.0))
    with pytest.raises(MarqueeError, match="r1 is retired"):
        promote.swap(settings, "r1", QUESTION)
    assert "refused" in last(ledger, "r1").reason
    assert overlay.kept(ledger) == ["r2", "r3"]
    assert promote.rollback(settings, None, "kids saw horror", "ann")["release_id"] == "r2"


def test_a_consistent_copy_of_another_build_is_not_returned_to(settings, ledger, both, make):
    """Files that agree with each other; the ledger has the digest of others."""
    ledger.set_digests("r1", payload_digest="0" * 64)
    with pytest.raises(MarqueeError, match=r"r1: its payload digest is .* and the ledger has 000000000000"):
        promote.rollback(settings, None, "because", "ann")
    assert ledger.pointer().release_id == "r2"
    assert [(one.kind, one.where) for one in doctor.torn_releases(settings, ledger)] == [("torn_release", "r1")]


def test_a_second_roll_back_with_the_same_words_goes_one_further_and_a_retry_does_not(settings, ledger, airflow, both, make):
    promote_whole(settings, airflow, make("r3", compared_with="r2", flavour=2.0))
    for run, release in (("manual__1", "r2"), ("manual__1", "r2"), ("manual__2", "r1"), ("manual__2", "r1")):
        assert promote.rollback(settings, None, "bad shelves", "ann", run)["release_id"] == release
    with pytest.raises(UsageError, match="none before it"):
        promote.rollback(settings, None, "bad shelves", "ann")


def test_a_retry_after_taking_back_what_was_probing_goes_no_further(settings, ledger, airflow, both, make):
    manifest = make("r3", compared_with="r2", flavour=2.0)
    promote.ask(settings, "r3")
    airflow.ask(manifest)
    airflow.answer()
    promote.swap(settings, "r3", QUESTION)
    for _ in range(2):
        assert promote.rollback(settings, None, "bad shelves", "ann", "manual__1")["release_id"] == "r2"


def test_a_replica_that_cannot_load_the_release_holds_no_roll_back_up(settings, ledger, both, replicas, monkeypatch):
    monkeypatch.setattr(rollback, "LOAD_SECONDS", 0.5)
    replicas("stuck", stuck=True)
    assert promote.rollback(settings, None, "kids saw horror", "ann") == {
        "release_id": "r1", "state": State.LIVE, "changed": True, "late": ["stuck"]}
    assert ledger.arrival("r1").details["late"] == ["stuck"]


def test_a_roll_back_that_no_replica_can_load_names_them_and_the_way_on(settings, ledger, both, replicas, monkeypatch):
    monkeypatch.setattr(rollback, "LOAD_SECONDS", 0.3)
    monkeypatch.setattr(swap, "wait_until_loaded", lambda *_: (["one"], ["one"]))
    with pytest.raises(MarqueeError, match=r"not loaded within 0\.3 s by one; live is as it was\. Their logs say why; restart or stop them"):
        promote.rollback(settings, None, "kids saw horror", "ann")
    assert (ledger.pointer().release_id, ledger.pointer().candidate) == ("r2", None)
    assert last(ledger, "r1").reason == "refused: not loaded within 0.3 s by one"


def test_a_replica_that_died_is_waited_for_no_more():
    from serving.live import LEASE_SECONDS

    assert LEASE_SECONDS < rollback.TRY_SECONDS
    assert rollback.LOAD_SECONDS + rollback.TRY_SECONDS < 30


@pytest.mark.parametrize("spoil", ["bring_up", "propose", "switch"])
def test_a_late_refusal_is_written_down_too(settings, ledger, airflow, two, monkeypatch, spoil):
    from ledger import Ledger, StaleVersion

    def refuse(*_, **__):
        raise StaleVersion("the pointer moved")

    airflow.answer()
    monkeypatch.setattr(*((swap.launches, "bring_up") if spoil == "bring_up" else (Ledger, spoil)), refuse)
    with pytest.raises(MarqueeError, match="the pointer moved"):
        promote.swap(settings, "r2", QUESTION)
    assert (last(ledger, "r2").actor, last(ledger, "r2").reason) == ("swap", "refused: the pointer moved")


def test_a_torn_release_is_not_returned_to(settings, ledger, both):
    (settings.releases / "r1" / names.SPEC).unlink()
    with pytest.raises(MarqueeError, match="torn"):
        promote.rollback(settings, None, "because", "ann")
    assert ledger.pointer().release_id == "r2"


def test_a_release_that_was_never_live_cannot_return(settings, ledger, both, make):
    make("r3", compared_with="r2", flavour=2.0)
    with pytest.raises(UsageError, match="r3: it is judged"):
        promote.rollback(settings, "r3", "because", "ann")


def test_a_probing_release_is_taken_back_at_once(settings, ledger, airflow, two):
    airflow.answer()
    promote.swap(settings, "r2", QUESTION)
    assert promote.rollback(settings, None, "I saw enough", "ann")["release_id"] == "r1"
    assert last(ledger, "r2").reason == "I saw enough"


@pytest.mark.parametrize("point", ["propose", "switch", "confirm"])
def test_a_kill_in_a_roll_back(settings, ledger, both, monkeypatch, point):
    from ledger import Ledger

    def die(*args, **more):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Ledger, point, die)
        with pytest.raises(Killed):
            promote.rollback(settings, None, "because", "ann")
    promote.rollback(settings, None, "because", "ann")
    assert (ledger.pointer().release_id, ledger.pointer().phase) == ("r1", "live")
    assert (state(ledger, "r1"), state(ledger, "r2")) == (State.LIVE, State.ROLLED_BACK)


def test_nothing_live_nothing_to_roll_back(settings, ledger):
    with pytest.raises(UsageError, match="no release is live"):
        promote.rollback(settings, None, "because", "ann")

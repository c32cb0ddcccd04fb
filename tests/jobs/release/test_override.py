"""A blocked candidate's way to the approvers: what must be named, what is never overridden, what withdraws a request."""

import pytest

from contracts import question as questions
from contracts import release as names
from contracts.errors import MarqueeError, UsageError
from contracts.release import State
from jobs.release import promote
from jobs.release.promote import QuestionAddress
from tests.jobs.release.conftest import RUN, judge

QUESTION = QuestionAddress("promote", RUN, "approve")
WHY = "the log was short *that* day"


@pytest.fixture
def blocked(settings, ledger, make, airflow):
    return make("r1", verdict="blocked", failed=("coverage", "recall"))


def request(settings, gates=("recall", "coverage"), reason=WHY, by="ann"):
    return promote.request_override(settings, "r1", list(gates), reason, by)


def test_the_question_opens_with_gates_and_reason_and_an_approver_decides(settings, ledger, airflow, blocked, api, replicas):
    replicas("one")
    done = request(settings)
    assert airflow.triggered == [{"dag_run_id": done["run_id"], "logical_date": None,
                                  "partition_key": f"r1.{blocked.evidence_digest[:10]}"}]
    promote.ask(settings, "r1")
    asked = questions.read(settings.home, "r1")
    assert "coverage, recall" in asked.subject
    first = asked.body.splitlines()[0]
    assert all(word in first for word in ("OVERRIDE", "ann", "recall is low", "coverage is low", r"the log was short \*that\* day"))
    airflow.ask(blocked)
    airflow.answer(who="approver1")
    promote.swap(settings, "r1", QUESTION)
    switched = ledger.transitions("r1")[-1]
    assert switched.details["overridden"]["reason"] == WHY, "kept for ever, with the answer"
    assert promote.probe(settings, "r1")["state"] == State.LIVE


def test_again_with_the_same_words_changes_nothing(settings, ledger, airflow, blocked):
    first, rows = request(settings), len(ledger.transitions("r1"))
    again = request(settings)
    assert (again["run_id"], again["changed"], len(ledger.transitions("r1"))) == (first["run_id"], False, rows)
    assert len(airflow.triggered) == 1


@pytest.mark.parametrize(("gates", "reason", "why"), [
    (("recall",), WHY, "name every gate that failed: --gate coverage"), (("recall", "coverage", "parity"), WHY, "parity: it did not fail"),
    (("recall", "coverage"), "  ", "say why"),
])
def test_what_must_be_said(settings, ledger, airflow, blocked, gates, reason, why):
    with pytest.raises(UsageError, match=why):
        request(settings, gates, reason)
    assert airflow.triggered == []
    with pytest.raises(MarqueeError, match="blocked by its gates"):
        promote.ask(settings, "r1")


def test_safety_is_never_overridden(settings, ledger, airflow, make):
    make("r1", verdict="blocked", failed=("ineligible", "recall"))
    for gates in (["ineligible", "recall"], ["recall"]):
        with pytest.raises(UsageError, match="ineligible cannot be overridden by anybody"):
            request(settings, gates)
    assert airflow.triggered == []


@pytest.mark.parametrize(("said", "why"), [
    ({"failed_gates": ["recall"]}, "do not name the same failed gates: ineligible"),
    ({"failed_gates": [], "verdict": "passed"}, "do not name the same failed gates: ineligible, recall"),
    ({"verdict": "passed"}, "manifest.json says passed, and by gates.json it is blocked"),
])
def test_a_safety_gate_left_out_of_the_manifest_is_seen(settings, ledger, airflow, make, said, why):
    """Both stand outside the digests; gates.json does not."""
    manifest = make("r1", verdict="blocked", failed=("ineligible", "recall"))
    (settings.releases / "r1" / names.MANIFEST).write_text(manifest.model_copy(update=said).model_dump_json())
    with pytest.raises(MarqueeError, match=why):
        request(settings, ["recall"])
    with pytest.raises(MarqueeError, match=why):
        promote.ask(settings, "r1")
    assert why in ledger.transitions("r1")[-1].reason, "the refusal is written down"
    assert airflow.triggered == []


def test_a_release_that_only_the_ledger_calls_blocked_is_not_asked_about(settings, ledger, make):
    make("r1")
    ledger.move("r1", State.BLOCKED, "test")
    with pytest.raises(MarqueeError, match="blocked in the ledger and passed by its manifest"):
        promote.ask(settings, "r1")
    assert "refused" in ledger.transitions("r1")[-1].reason


def test_only_what_is_blocked_can_be_overridden(settings, ledger, airflow, make):
    make("r1")
    with pytest.raises(UsageError, match="r1 is judged: only a candidate that its gates blocked"):
        request(settings)


def test_whoever_asks_does_not_decide(settings, ledger, airflow, blocked):
    request(settings, by="approver1")
    promote.ask(settings, "r1")
    airflow.ask(blocked)
    airflow.answer(who="approver1")
    with pytest.raises(MarqueeError, match="approver1 requested the override"):
        promote.swap(settings, "r1", QUESTION)
    assert ledger.pointer() is None


@pytest.mark.parametrize("by", ["Approver1", "alice-login", "marquee", ""])
def test_whoever_asks_goes_by_their_name_in_airflow(settings, ledger, airflow, blocked, by):
    """Under another the requester would not be known among those who answer."""
    with pytest.raises(UsageError, match="say your user name in Airflow, one of approver1, approver2, ann"):
        request(settings, by=by)
    assert (airflow.triggered, ledger.transitions("r1")[-1].actor) == ([], "judge")


def test_a_candidate_judged_again_has_to_be_requested_anew(settings, ledger, airflow, blocked):
    request(settings)
    promote.ask(settings, "r1")
    airflow.ask(blocked)
    airflow.answer()
    judge(settings, ledger, "r1", "r0", verdict="blocked", failed=("coverage", "recall"))
    with pytest.raises(MarqueeError, match="it does not await approval"):
        promote.swap(settings, "r1", QUESTION)
    with pytest.raises(MarqueeError, match="blocked by its gates: coverage, recall"):
        promote.ask(settings, "r1")
    assert ledger.pointer() is None


def test_nobody_answered_and_it_is_requested_again(settings, ledger, airflow, blocked):
    settings.approval_hours = 1e-7
    request(settings)
    promote.ask(settings, "r1")
    promote.reconcile(settings)
    assert ledger.get("r1").state == State.EXPIRED
    settings.approval_hours = 1
    request(settings)
    assert [run["dag_run_id"][-3:] for run in airflow.triggered] == ["__1", "__2"]
    assert promote.ask(settings, "r1")["state"] == State.AWAITING_APPROVAL


def test_an_airflow_that_is_away_is_told_by_the_rerun(settings, ledger, airflow, blocked):
    address, settings.airflow_url = settings.airflow_url, "http://127.0.0.1:9"
    with pytest.raises(MarqueeError, match="Airflow"):
        request(settings)
    settings.airflow_url = address
    assert request(settings)["changed"]
    assert len([t for t in ledger.transitions("r1") if "override" in t.details]) == 1

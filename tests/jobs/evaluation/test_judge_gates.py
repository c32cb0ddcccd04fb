"""Truth table of the gates: what fails, what passes, what says that it cannot say."""

import pytest

from jobs.evaluation import gates
from jobs.evaluation.gates import FAILED, NOT_APPLICABLE, PASSED, Difference


def difference(value: float, low: float, high: float, theirs: float = 0.5) -> Difference:
    return Difference(metric="ndcg_at_10", ours=theirs + value, theirs=theirs, difference=value, low=low, high=high)


@pytest.mark.parametrize(("value", "low", "high", "verdict"), [
    (+0.02, +0.01, +0.03, PASSED),  # gain
    (+0.00, -0.02, +0.02, PASSED),  # tie
    (-0.02, -0.05, +0.01, PASSED),  # loss that chance explains
    (-0.008, -0.010, -0.006, FAILED),  # significant loss beyond the margin of .005
    (-0.004, -0.007, -0.001, PASSED),  # significant loss, but it may lie within the margin
])
def test_not_worse_fails_only_on_a_significant_loss_beyond_the_margin(value, low, high, verdict):
    gate = gates.not_worse("not_worse_than_live", "rule", difference(value, low, high), 0.01)
    assert gate.verdict == verdict
    assert gate.threshold == pytest.approx(-0.005)
    assert gate.overridable


@pytest.mark.parametrize(("value", "low", "high", "verdict", "says"), [
    (+0.02, +0.01, +0.03, PASSED, "significantly better"),
    (+0.01, -0.01, +0.03, PASSED, "no significant difference"),
    (+0.00, -0.01, +0.01, FAILED, "no significant difference"),
    (-0.02, -0.03, -0.01, FAILED, "significantly worse"),
])
def test_better_needs_a_gain_and_says_whether_it_is_significant(value, low, high, verdict, says):
    gate = gates.better("better_than_popularity", "rule", difference(value, low, high))
    assert gate.verdict == verdict
    assert says in gate.reason


@pytest.mark.parametrize("gate", [
    gates.not_worse("a", "rule", None, 0.01, "nothing is live"), gates.better("b", "rule", None, "nothing is live"),
])
def test_a_comparison_without_a_counterpart_does_not_pass_in_silence(gate):
    assert (gate.verdict, gate.reason, gate.figure) == (NOT_APPLICABLE, "nothing is live", None)


def test_too_few_requests_are_said_and_neither_pass_nor_fail():
    assert gates.enough(10, 10).verdict == PASSED
    few = gates.enough(9, 10)
    assert few.verdict == NOT_APPLICABLE
    assert "9 requests, 10 needed" in few.reason


@pytest.mark.parametrize(("figure", "looked_at", "verdict"), [(0, 100, PASSED), (1, 100, FAILED), (0, 0, FAILED)])
def test_safety_fails_on_one_case_and_where_nothing_was_looked_at(figure, looked_at, verdict):
    gate = gates.at_most("no_ineligible_title", "safety", "rule", figure, 0, looked_at, "titles", False)
    assert gate.verdict == verdict
    assert not gate.overridable


@pytest.mark.parametrize(("figure", "verdict"), [(5, PASSED), (4, FAILED), (6, FAILED), (None, FAILED)])
def test_counts_must_be_exact_and_known(figure, verdict):
    assert gates.equal("indexed_titles", "rule", figure, 5, "Milvus does not answer").verdict == verdict


def test_an_empty_catalogue_is_not_complete():
    assert gates.equal("indexed_titles", "rule", 0, 0).verdict == FAILED


def test_a_figure_that_is_not_a_number_fails():
    assert gates.better("a", "rule", difference(float("nan"), 0.0, 0.0)).verdict == FAILED


def test_one_failed_gate_blocks():
    good, bad = gates.enough(10, 10), gates.equal("indexed_titles", "rule", 1, 2)
    unsaid = gates.enough(1, 10)
    assert gates.verdict([good, unsaid]) == "passed"
    assert gates.verdict([good, bad]) == "blocked"
    assert gates.failed([good, unsaid, bad]) == ["indexed_titles"]

"""The named rules between a candidate and the approver's question. Each says its threshold, its figure and why."""

import math
from typing import Literal, get_args

from pydantic import BaseModel

PASSED, FAILED, NOT_APPLICABLE = "passed", "failed", "not_applicable"
Verdict = Literal["passed", "failed", "not_applicable"]
Group = Literal["safety", "completeness", "data", "parity", "retrieval", "quality", "variety", "operations"]
GROUPS: tuple[Group, ...] = get_args(Group)
"""In the order in which a person reads them."""


class Gate(BaseModel):
    """One rule's outcome. `overridable` is False for safety: nobody may wave an ineligible title through."""

    name: str
    group: Group
    rule: str
    threshold: float | None
    figure: float | None
    verdict: Verdict
    reason: str
    overridable: bool


class Difference(BaseModel):
    """A mean paired difference of one metric against one baseline, with one-sided bounds of that confidence each."""

    metric: str
    ours: float
    theirs: float
    difference: float
    low: float
    high: float
    confidence: float = 0.95


def at_most(name: str, group: str, rule: str, figure: float, threshold: float, looked_at: int, what: str, overridable: bool) -> Gate:
    """Fails above the threshold, and where there was nothing to look at."""
    if not looked_at:
        return _gate(name, group, rule, threshold, None, FAILED, f"no {what} was looked at", overridable)
    verdict = PASSED if figure <= threshold else FAILED
    return _gate(name, group, rule, threshold, figure, verdict, f"{figure:g} over {looked_at} {what}", overridable)


def at_least(name: str, group: Group, rule: str, figure: float, threshold: float, reason: str, overridable: bool = True) -> Gate:
    """Fails below the threshold."""
    return _gate(name, group, rule, threshold, figure, PASSED if figure >= threshold else FAILED, reason, overridable)


def below(name: str, group: Group, rule: str, figure: float, threshold: float, reason: str, overridable: bool = True) -> Gate:
    """Fails above the threshold; for figures whose reason says more than a count."""
    return _gate(name, group, rule, threshold, figure, PASSED if figure <= threshold else FAILED, reason, overridable)


def not_applicable(name: str, group: Group, rule: str, why_not: str, overridable: bool = True) -> Gate:
    """There is nothing to decide on, and the card says so."""
    return _gate(name, group, rule, None, None, NOT_APPLICABLE, why_not, overridable)


def equal(name: str, rule: str, figure: int | None, expected: int, why_unknown: str = "") -> Gate:
    """A count that must be exactly so."""
    if figure is None:
        return _gate(name, "completeness", rule, expected, None, FAILED, why_unknown, False)
    verdict = PASSED if figure == expected and expected > 0 else FAILED
    return _gate(name, "completeness", rule, expected, figure, verdict, f"{figure} of {expected}", False)


def enough(requests: int, needed: int) -> Gate:
    """Whether the comparisons may speak at all; decided from the number of requests, before any figure is seen."""
    rule = f"at least {needed} judged requests"
    if requests >= needed:
        return _gate("enough_requests", "completeness", rule, needed, requests, PASSED, f"{requests} requests", True)
    reason = f"{requests} requests, {needed} needed: the comparisons below say nothing"
    return _gate("enough_requests", "completeness", rule, needed, requests, NOT_APPLICABLE, reason, True)


def not_worse(
    name: str, rule: str, difference: Difference | None, relative_margin: float, why_not: str = "", group: Group = "quality"
) -> Gate:
    """Fails only where the loss beyond the margin is significant: even the upper bound lies below it."""
    if difference is None:
        return not_applicable(name, group, rule, why_not)
    threshold = -relative_margin * difference.theirs
    failed = not difference.high >= threshold
    return _gate(name, group, rule, threshold, difference.difference, FAILED if failed else PASSED, _said(difference), True)


def better(name: str, rule: str, difference: Difference | None, why_not: str = "") -> Gate:
    """Fails where the mean is not above the baseline's; the reason says whether the gain is significant."""
    if difference is None:
        return not_applicable(name, "quality", rule, why_not)
    verdict = PASSED if difference.difference > 0 else FAILED
    return _gate(name, "quality", rule, 0.0, difference.difference, verdict, _said(difference), True)


def verdict(gates: list[Gate]) -> str:
    """`blocked` where any gate failed, else `passed`."""
    return "blocked" if any(gate.verdict == FAILED for gate in gates) else "passed"


def failed(gates: list[Gate]) -> list[str]:
    return [gate.name for gate in gates if gate.verdict == FAILED]


def _said(d: Difference) -> str:
    if d.low > 0:
        strength = "significantly better"
    elif d.high < 0:
        strength = "significantly worse"
    else:
        strength = "no significant difference"
    relative = f"{d.difference / d.theirs:+.1%}, " if d.theirs else ""
    return (f"{d.metric} {d.ours:.4f} against {d.theirs:.4f}: {d.difference:+.4f} ({relative}{d.confidence:.0%} bounds "
            f"{d.low:+.4f} to {d.high:+.4f}), {strength}")


def _gate(name, group, rule, threshold, figure, verdict, reason, overridable) -> Gate:
    if figure is not None and not math.isfinite(figure):
        verdict, figure, reason = FAILED, None, f"the figure is not a number; {reason}"
    return Gate(name=name, group=group, rule=rule, threshold=threshold, figure=figure, verdict=verdict, reason=reason,
                overridable=overridable)

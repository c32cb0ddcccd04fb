"""Ranker and funnel: not worse than what serves now, better than what needs no model, overall and by slice.

Where the live release ranked the judged slates, plays favour it: members watch what they were shown. Then everything is
decided on the corrected labels (logged.py) instead, or not at all where exploration slots are too few.
"""

from collections.abc import Iterator

from jobs.evaluation import gates as gate
from jobs.evaluation.case import Case
from jobs.evaluation.figures import CONFIDENCE, LIVE, POPULARITY, RETRIEVAL, Comparison
from jobs.evaluation.gates import PASSED, Difference, Gate, enough
from jobs.evaluation.rules.index import Index


def gates(case: Case, index: Index) -> Iterator[Gate]:
    config, scheme = case.config, fair(case).scheme
    headline, label = scheme.headline, scheme.labels[scheme.headline]
    yield gate.not_worse("not_worse_than_live", f"{label} not significantly more than {config.live_margin:.0%} below live's",
                         against(case, headline, LIVE), config.live_margin, why_not_live(case))
    yield _slices(case, label)
    if config.popularity_must_be_beaten and not case.corrected.live_share:  # few corrected labels: a mean may lie anywhere
        yield gate.better("better_than_popularity", f"{label} above popularity's", against(case, headline, POPULARITY), why_not(case))
    else:
        yield gate.not_worse("better_than_popularity", f"{label} not significantly below popularity's",
                             against(case, headline, POPULARITY), 0.0, why_not(case))
    yield gate.not_worse("not_worse_than_retrieval_order", f"{label} not significantly below the retrieval order's, arranged alike",
                         against(case, headline, RETRIEVAL), 0.0, why_not(case))


def fair(case: Case) -> Comparison:
    """The comparison that favours nobody: on plays, unless the live release ranked the slates that they came from."""
    return case.corrected.comparison if case.corrected.live_share else case.comparison


def why_not(case: Case) -> str:
    """Why the fair comparison says nothing; empty where it may speak. Decided from counts alone."""
    corrected, needed = case.corrected, case.config.min_explored
    if corrected.live_share and corrected.explored < needed:
        return (f"the live release ranked {corrected.live_share:.0%} of the judged slates, so that plays favour it, and "
                f"{corrected.explored} engagements in exploration slots are too few to correct for that ({needed} needed)")
    return "" if corrected.live_share else too_few(case)


def too_few(case: Case) -> str:
    """Why comparisons say nothing; empty where they may speak. Decided from the number of requests alone."""
    size = enough(len(case.judged), case.config.min_requests)
    return "" if size.verdict == PASSED else f"decided before the comparison: {size.figure:g} requests, {size.threshold:g} needed"


def why_not_live(case: Case) -> str:
    return case.live.note if not case.live.comparable else why_not(case)


def against(case: Case, metric: str, baseline: str) -> Difference | None:
    return None if why_not(case) else fair(case).difference(metric, baseline)


def _slices(case: Case, label: str) -> Gate:
    """One decision over all slices (Holm, 1979): however many there are, a good candidate fails it no more often than any
    other gate."""
    name = "no_slice_worse_than_live"
    rule = f"no slice's {label} significantly more than {case.config.live_margin:.0%} below live's, corrected for their number"
    if why_not_live(case):
        return gate.not_applicable(name, "quality", rule, why_not_live(case))
    losses = fair(case).slice_losses(LIVE, case.config.live_margin)
    if not losses:
        return gate.not_applicable(name, "quality", rule, "no slice has enough profiles")
    lost = holm({slice_: loss.p for slice_, loss in losses.items()}, 1 - CONFIDENCE)
    worst = min(losses, key=lambda slice_: losses[slice_].p)
    said = "; ".join(f"{s}: {losses[s].ours:.4f} against {losses[s].theirs:.4f} (p = {losses[s].p:.2g})" for s in lost or [worst])
    reason = f"{len(lost)} of {len(losses)} slices lost: {said}" if lost else f"none of {len(losses)} slices lost; nearest to it {said}"
    return gate.below(name, "quality", rule, len(lost), 0, reason)


def holm(p: dict[str, float], level: float) -> list[str]:
    """The hypotheses that Holm's step-down procedure rejects, smallest p first."""
    rejected = []
    for i, name in enumerate(sorted(p, key=p.__getitem__)):
        if p[name] > level / (len(p) - i):
            break
        rejected.append(name)
    return rejected

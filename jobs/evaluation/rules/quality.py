"""Ranker and funnel: not worse than what serves now, better than what needs no model, overall and by slice."""

from collections.abc import Iterator

from jobs.evaluation import gates as gate
from jobs.evaluation.case import Case
from jobs.evaluation.figures import LIVE, NDCG, POPULARITY, RETRIEVAL
from jobs.evaluation.gates import PASSED, Difference, Gate, enough
from jobs.evaluation.rules.index import Index

CONFIDENCE = 0.95


def gates(case: Case, index: Index) -> Iterator[Gate]:
    config = case.config
    yield gate.not_worse("not_worse_than_live", f"NDCG@10 not significantly more than {config.live_margin:.0%} below live's",
                         against(case, NDCG, LIVE), config.live_margin, why_not_live(case))
    yield _slices(case)
    if config.popularity_must_be_beaten:
        yield gate.better("better_than_popularity", "NDCG@10 above popularity's", against(case, NDCG, POPULARITY), too_few(case))
    else:
        yield gate.not_worse("better_than_popularity", "NDCG@10 not significantly below popularity's",
                             against(case, NDCG, POPULARITY), 0.0, too_few(case))
    yield gate.not_worse("not_worse_than_retrieval_order", "NDCG@10 not significantly below the retrieval order's, arranged alike",
                         against(case, NDCG, RETRIEVAL), 0.0, too_few(case))


def too_few(case: Case) -> str:
    """Why comparisons say nothing; empty where they may speak. Decided from the number of requests alone."""
    size = enough(len(case.judged), case.config.min_requests)
    return "" if size.verdict == PASSED else f"decided before the comparison: {size.figure:g} requests, {size.threshold:g} needed"


def why_not_live(case: Case) -> str:
    return case.live.note if not case.live.comparable else too_few(case)


def against(case: Case, metric: str, baseline: str) -> Difference | None:
    return None if too_few(case) else case.comparison.difference(metric, baseline)


def _slices(case: Case) -> Gate:
    """One decision over all slices (Holm, 1979): at most 5 % of good candidates fail it, however many slices there are."""
    name = "no_slice_worse_than_live"
    rule = f"no slice's NDCG@10 significantly more than {case.config.live_margin:.0%} below live's, corrected for their number"
    if why_not_live(case):
        return gate.not_applicable(name, "quality", rule, why_not_live(case))
    losses = case.comparison.slice_losses(LIVE, case.config.live_margin)
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

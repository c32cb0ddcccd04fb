"""Nobody may wave these through: what is shown must be allowed, and something must be shown.

Shape suffixes: Q queries, T titles.
"""

from collections.abc import Iterator

import numpy as np

from jobs.evaluation import eligible
from jobs.evaluation.case import Case
from jobs.evaluation.gates import Gate, at_most, not_applicable
from jobs.evaluation.rules.index import Index

QUERIES = 64
LIMITS = (0, 7, 13, 16, 18)
RULE = "no title outside its licence window or above the maturity limit, in {count} sampled requests of the next block"


def gates(case: Case, index: Index) -> Iterator[Gate]:
    judged, answers = case.judged, case.ours.answers
    shown = sum(len(answer.titles) for answer in answers)
    yield at_most("no_ineligible_title", "safety", "no title outside its licence window or above the maturity limit",
                  len(eligible.ineligible(judged, answers, case.eligibility)), 0, shown, "titles shown", False)
    yield _sampled(case, index)
    yield at_most("no_watched_title", "safety", "no title that the profile has watched",
                  len(eligible.watched_again(judged, answers)), 0, shown, "titles shown", False)
    yield at_most("no_empty_shelf", "safety", "no empty shelf while a title is eligible",
                  len(eligible.needlessly_empty(judged, answers, case.eligibility)), 0, len(case.answered), "shelves", False)


def _sampled(case: Case, index: Index) -> Gate:
    """The filter's fields and the guard, without the server, for many more markets, limits and moments than were judged;
    held against the log's records by another way of reading them."""
    name, rule = "no_ineligible_title_sampled", RULE.format(count=f"{case.config.safety_samples:,}")
    if index.client is None or not case.spec.markets:
        return not_applicable(name, "safety", rule, index.error or "the release names no market", overridable=False)
    log = case.eligibility.at(case.eligibility.head)
    truth = eligible.Windows(case.eligibility.records, index.title_ids)
    wrong, looked_at = 0, 0
    for market, limit, at, shelf in shelves(case, index):
        kept = [row for row in shelf if log.why_not(index.title_ids[row], market, limit, at) is None]
        allowed_T = truth.allowed_T(market, limit, at)
        wrong += sum(not allowed_T[row] for row in kept)
        looked_at += len(kept)
    return at_most(name, "safety", rule, wrong, 0, looked_at, "titles", False)


def shelves(case: Case, index: Index) -> Iterator[tuple[str, int, int, np.ndarray]]:
    """(market, limit, moment, rows of titles that a filtered search gives), spread over the block that will be served."""
    random, split = np.random.default_rng(case.config.seed), case.provenance.tag.split
    queries_QD = index.vectors_TD[random.integers(len(index.title_ids), size=QUERIES)]
    queries_QD = queries_QD + random.normal(0, 0.1, queries_QD.shape)
    order_QT = np.argsort(-(queries_QD @ index.vectors_TD.T), axis=1, kind="stable")
    start, seconds = int(split.judge_end.timestamp()), int(split.block.total_seconds())
    for _ in range(case.config.safety_samples):
        market, limit = str(random.choice(case.spec.markets)), int(random.choice(LIMITS))
        at, order_T = start + int(random.integers(seconds)), order_QT[random.integers(QUERIES)]
        yield market, limit, at, order_T[index.allowed_T(market, limit, at)[order_T]][: case.config.shelf_size]

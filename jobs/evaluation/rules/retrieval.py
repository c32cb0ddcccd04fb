"""What reaches the ranker: enough of it, the right of it, and what exact search would have found."""

from collections.abc import Iterator

import numpy as np

from jobs.evaluation import gates as gate
from jobs.evaluation.case import Case
from jobs.evaluation.figures import LIVE
from jobs.evaluation.gates import Gate
from jobs.evaluation.rules.index import Index
from jobs.evaluation.rules.quality import against, fair, too_few, why_not_live
from jobs.evaluation.rules.safety import LIMITS

CHANCE = 0.5


def gates(case: Case, index: Index) -> Iterator[Gate]:
    scheme = fair(case).scheme
    yield gate.not_worse("recall_not_worse_than_live", f"{scheme.labels[scheme.retrieval]} not significantly more than {case.config.live_margin:.0%} below live's",
                         against(case, scheme.retrieval, LIVE), case.config.live_margin, why_not_live(case), group="retrieval")
    yield _better_than_chance(case)
    yield _pool(case)
    yield from _filtered(case, index)
    yield _retrievable(case)


def _better_than_chance(case: Case) -> Gate:
    """Where a query tower reads another run's vectors, what is engaged with lies anywhere in its order."""
    name, rule = "retrieval_better_than_chance", "what was engaged with lies significantly above the middle of what may be shown"
    if too_few(case):
        return gate.not_applicable(name, "retrieval", rule, too_few(case))
    places_N = np.array([_place(case, i) for i in range(len(case.judged))])
    low, _ = case.comparison.bootstrap.bounds(places_N)
    if not np.isfinite(low):
        return gate.not_applicable(name, "retrieval", rule, "no answered request has a title to find among those that may be shown")
    return gate.at_least(name, "retrieval", rule, round(low, 6), CHANCE,
                         f"on average above {np.nanmean(places_N):.1%} of the eligible titles, at least {low:.1%} with 95 % confidence")


def _place(case: Case, i: int) -> float:
    """Mean share of the eligible, unwatched titles below what was engaged with, by the pool's order; titles outside the
    pool share the places after it. NaN where there is nothing to find."""
    one, answer = case.judged[i], case.ours.answers[i]
    if answer.error or not answer.pool:
        return float("nan")
    allowed = _eligible(case, answer.eligibility_seq, one.market, one.maturity_limit, one.at) - one.watched
    wanted = [title for title in one.relevant if title in allowed]
    place = {title: n for n, title in enumerate(answer.pool)}
    rest = (len(answer.pool) + max(len(allowed), len(answer.pool)) - 1) / 2
    if not wanted or len(allowed) < 2:
        return float("nan")
    return float(np.mean([1 - min(place.get(title, rest) / (len(allowed) - 1), 1.0) for title in wanted]))


def _eligible(case: Case, seq: int, market: str, limit: int, at: int) -> frozenset[str]:
    """Titles of the release that the log allows; by the hour, since windows open and close on whole hours or days, and
    the share of a pool does not turn on a minute."""
    return case.eligibility.allowed(seq or case.eligibility.head, market, limit, at - at % 3600, case.title_ids)


def _pool(case: Case) -> Gate:
    """The least filled group of market and maturity limit decides."""
    name = "pool_size"
    rule = f"pools after filtering hold at least {case.config.min_filled_pool:.0%} of what they could, in each market and maturity limit"
    groups: dict[tuple[str, int], list[float]] = {}
    for one, answer in zip(case.judged, case.ours.answers, strict=True):
        if answer.error is None:
            allowed = _eligible(case, answer.eligibility_seq, one.market, one.maturity_limit, one.at) - one.watched
            could = min(case.spec.pool_size, len(allowed))
            if could:
                groups.setdefault((one.market, one.maturity_limit), []).append(min(1.0, len(answer.pool) / could))
    if not groups:
        return gate.not_applicable(name, "retrieval", rule, "no request had an eligible title")
    shares = {group: float(np.mean(values)) for group, values in groups.items()}
    worst = min(shares, key=shares.__getitem__)
    return gate.at_least(name, "retrieval", rule, round(shares[worst], 6), case.config.min_filled_pool,
                         f"least in market {worst[0]}, maturity {worst[1]}, of {len(shares)} groups")


def _filtered(case: Case, index: Index) -> Iterator[Gate]:
    """The database's own filtered search against exact search by the log; and whether its filter lets anything through
    that the log does not allow (the guard would remove it, and the shelf would be shorter)."""
    rules = {"filtered_recall": f"filtered search finds at least {case.config.min_filtered_recall:.0%} of what exact filtered search finds",
             "filter_agrees": "titles that a filtered search gives and the eligibility log does not allow"}
    if index.client is None or not case.spec.markets:
        for name, rule in rules.items():
            yield gate.not_applicable(name, "retrieval", rule, index.error or "the release names no market")
        return
    recalls, leaks, returned = [], 0, 0
    for market, limit, at, query_D in _queries(case, index):
        found = index.search(query_D, market, limit, at, case.config.shelf_size)
        allowed = case.night_log.allowed(case.night_log.head, market, limit, at, case.title_ids)
        order_T = np.argsort(-(index.vectors_TD @ query_D), kind="stable")
        exact = [t for t in (index.title_ids[row] for row in order_T) if t in allowed][: case.config.shelf_size]
        recalls += [len(set(exact) & set(found)) / len(exact)] if exact else []
        leaks += sum(title not in allowed for title in found)
        returned += len(found)
    if not recalls:
        yield gate.at_least("filtered_recall", "retrieval", rules["filtered_recall"], 0.0, case.config.min_filtered_recall,
                            "no title may be shown to anybody", overridable=False)
        return
    yield gate.at_least("filtered_recall", "retrieval", rules["filtered_recall"], round(float(np.mean(recalls)), 6),
                        case.config.min_filtered_recall, f"over {len(recalls)} searches", overridable=False)
    yield gate.below("filter_agrees", "retrieval", rules["filter_agrees"], round(leaks / max(1, returned), 6),
                     1 - case.config.min_filtered_recall, f"{leaks} of {returned} titles")


def _queries(case: Case, index: Index) -> Iterator[tuple[str, int, int, np.ndarray]]:
    random = np.random.default_rng(case.config.seed)
    at = int(case.provenance.tag.split.judge_end.timestamp()) - 1
    for i in range(case.config.filtered_searches):
        query_D = index.vectors_TD[random.integers(len(index.title_ids))]
        query_D = (query_D + random.normal(0, 0.1, query_D.shape)).astype(np.float32)
        yield case.spec.markets[i % len(case.spec.markets)], LIMITS[(i // len(case.spec.markets)) % len(LIMITS)], at, query_D


def _retrievable(case: Case) -> Gate:
    name, config = "retrievable_titles", case.config
    rule = f"share of licensed titles with {config.interactions} plays or more that any judged request retrieved"
    ours = _retrieved(case, [answer.pool for answer in case.answered])
    if ours is None:
        return gate.not_applicable(name, "retrieval", rule, f"no licensed title has {config.interactions} plays")
    floor, said = config.min_retrievable, "floor"
    live = [lists.pool for lists in case.comparison.systems.get(LIVE, ()) if lists is not None]
    theirs = _retrieved(case, live) if live else None
    if theirs is not None:
        floor, said = max(floor, theirs[0] - config.retrievable_drop), f"live retrieved {theirs[0]:.1%}"
    return gate.at_least(name, "retrieval", rule, round(ours[0], 6), round(floor, 6), f"{ours[0]:.1%} of {ours[1]} titles; {said}")


def _retrieved(case: Case, pools: list) -> tuple[float, int] | None:
    """(share, titles): of those played enough and allowed to a judged request's market."""
    plays = dict(zip(case.title_ids, case.titles["plays_30d"].to_pylist(), strict=True))
    at = int(case.provenance.tag.split.judge_end.timestamp()) - 1
    askers = {(one.market, one.maturity_limit) for one in case.judged}
    licensed = frozenset().union(*(_eligible(case, 0, market, limit, at) for market, limit in askers))
    wanted = {title for title in licensed if (plays[title] or 0) >= case.config.interactions}
    return (len(wanted.intersection(*[set().union(*pools)])) / len(wanted), len(wanted)) if wanted else None

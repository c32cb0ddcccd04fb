"""Beyond accuracy: against live's shelves with tolerances, or against popularity's own where none is live."""

from collections.abc import Iterator

import numpy as np

from jobs.evaluation import gates as gate
from jobs.evaluation import metrics
from jobs.evaluation.case import Case
from jobs.evaluation.figures import CANDIDATE, LIVE, POPULARITY
from jobs.evaluation.gates import Gate
from jobs.evaluation.rules.index import Index
from jobs.evaluation.rules.quality import too_few


def gates(case: Case, index: Index) -> Iterator[Gate]:
    live = case.live.comparable and LIVE in case.comparison.systems
    other, config = (LIVE if live else POPULARITY), case.config
    rules = {
        "coverage": f"share of the catalogue on any shelf at most {config.coverage_drop:.0%} below {other}'s" if live else
                    "share of the catalogue on any shelf at least popularity's",
        "popularity_share": f"places held by the most played tenth at most {config.popularity_rise:g} above {other}'s",
        "long_tail": f"places held by the least played half at least {1 - config.tail_drop:.0%} of live's",
        "diversity": f"genre diversity of a shelf at most {config.diversity_drop:g} below {other}'s",
    }
    if too_few(case):
        for name, rule in rules.items():
            yield gate.not_applicable(name, "variety", rule, too_few(case))
        return
    systems = case.comparison.as_json()["systems"]
    ours, theirs = systems[CANDIDATE], systems[other]
    least = theirs["coverage_at_10"] * (1 - config.coverage_drop if live else 1)
    yield gate.at_least("coverage", "variety", rules["coverage"], ours["coverage_at_10"], round(least, 6),
                        f"{ours['coverage_at_10']:.1%} of the catalogue, {other} {theirs['coverage_at_10']:.1%}")
    yield _per_shelf(case, "popularity_share", rules["popularity_share"], other, _share(case.comparison.facts.popular),
                     config.popularity_rise, sign=-1)
    if not live:
        yield gate.not_applicable("long_tail", "variety", rules["long_tail"], case.live.note)
    else:
        tail = _share(case.comparison.facts.tail)
        yield _per_shelf(case, "long_tail", rules["long_tail"], other, tail, config.tail_drop * _mean(case, other, tail), sign=1)
    yield _per_shelf(case, "diversity", rules["diversity"], other,
                     lambda shelf: metrics.intra_list_diversity(shelf, case.comparison.facts.genres_of), config.diversity_drop, sign=1)


def _share(titles: frozenset[str]):
    return lambda shelf: metrics.popularity_share([shelf], titles) if shelf else float("nan")


def _values(case: Case, system: str, figure) -> np.ndarray:
    return np.array([float("nan") if lists is None else figure(lists.shelf) for lists in case.comparison.systems[system]])


def _mean(case: Case, system: str, figure) -> float:
    values = _values(case, system, figure)
    return float(np.nanmean(values)) if np.isfinite(values).any() else 0.0


def _per_shelf(case: Case, name: str, rule: str, other: str, figure, tolerance: float, sign: int) -> Gate:
    """`sign` 1: more is better. Fails where the loss beyond the tolerance is significant: even its upper bound is."""
    ours, theirs = _mean(case, CANDIDATE, figure), _mean(case, other, figure)
    gain_N = sign * (_values(case, CANDIDATE, figure) - _values(case, other, figure))
    _, high = case.comparison.bootstrap.bounds(gain_N)
    if not np.isfinite(high):
        return gate.not_applicable(name, "variety", rule, "no pair of shelves to compare")
    reason = f"{ours:.3f}, {other} {theirs:.3f}; at best {high:+.3f} for the better with 95 % confidence"
    return gate.at_least(name, "variety", rule, round(high, 6), round(-tolerance, 6), reason)

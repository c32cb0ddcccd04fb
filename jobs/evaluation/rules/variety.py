"""Beyond accuracy: shelves may not be poorer than live's beyond a tolerance, unless they are still as rich as popularity's.

A new kind of ranker may rightly show fewer titles than live did; what collapses shows fewer than a popularity list.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from jobs.evaluation import gates as gate
from jobs.evaluation import metrics
from jobs.evaluation.case import Case
from jobs.evaluation.figures import CANDIDATE, LIVE, POPULARITY
from jobs.evaluation.gates import Gate
from jobs.evaluation.rules.index import Index
from jobs.evaluation.rules.quality import too_few

Figure = Callable[[Sequence[str]], float]


def gates(case: Case, index: Index) -> Iterator[Gate]:
    config, facts = case.config, case.comparison.facts
    others = [name for name in (LIVE, POPULARITY) if name in case.comparison.systems]
    than = " and ".join(f"{name}'s" for name in others)
    rules = {
        "coverage": f"share of the catalogue on any shelf not over {config.coverage_drop:.0%} below {than}",
        "popularity_share": f"places held by the most played tenth not over {config.popularity_rise:g} above {than}",
        "long_tail": f"places held by the least played half not over {config.tail_drop:.0%} below {than}",
        "diversity": f"genre diversity of a shelf not over {config.diversity_drop:g} below live's, or at least "
                     f"{config.diversity_floor:.0%} of popularity's",
    }
    if too_few(case):
        for name, rule in rules.items():
            yield gate.not_applicable(name, "variety", rule, too_few(case))
        return
    yield _coverage(case, rules["coverage"], others)
    popular, tail = _share(facts.popular), _share(facts.tail)
    yield _per_shelf(case, "popularity_share", rules["popularity_share"], popular, dict.fromkeys(others, config.popularity_rise), sign=-1)
    yield _per_shelf(case, "long_tail", rules["long_tail"], tail, {o: config.tail_drop * _mean(case, o, tail) for o in others})
    # taste narrows a shelf: popularity's is the most varied there is, and says only what a collapse would be
    tolerances = {LIVE: config.diversity_drop, POPULARITY: (1 - config.diversity_floor) * _mean(case, POPULARITY, _varied(facts.genres_of))}
    yield _per_shelf(case, "diversity", rules["diversity"], _varied(facts.genres_of), {o: tolerances[o] for o in others})


def _coverage(case: Case, rule: str, others: Sequence[str]) -> Gate:
    ours, *theirs = (case.comparison.overall(system)["coverage_at_10"] for system in (CANDIDATE, *others))
    least = min(theirs) * (1 - case.config.coverage_drop)
    said = ", ".join(f"{name} {share:.1%}" for name, share in zip(others, theirs, strict=True))
    return gate.at_least("coverage", "variety", rule, ours, round(least, 6), f"{ours:.1%} of the catalogue, {said}")


def _per_shelf(case: Case, name: str, rule: str, figure: Figure, tolerances: dict[str, float], sign: int = 1) -> Gate:
    """`sign` 1: more is better. Fails where the loss beyond the tolerance is significant (even its upper bound is) against
    each of the others; the figure is that bound against the one that is nearest to passing."""
    ours_N = _values(case, CANDIDATE, figure)
    bounds = {other: case.comparison.bootstrap.bounds(sign * (ours_N - _values(case, other, figure)))[1] for other in tolerances}
    bounds = {other: high for other, high in bounds.items() if np.isfinite(high)}
    if not bounds:
        return gate.not_applicable(name, "variety", rule, "no pair of shelves to compare")
    nearest = max(bounds, key=lambda other: bounds[other] + tolerances[other])
    said = ", ".join(f"{other} {_mean(case, other, figure):.3f}" for other in bounds)
    reason = f"{_mean(case, CANDIDATE, figure):.3f}, {said}; at best {bounds[nearest]:+.3f} from {nearest} with 95 % confidence"
    return gate.at_least(name, "variety", rule, round(bounds[nearest], 6), round(-tolerances[nearest], 6), reason)


def _share(titles: frozenset[str]) -> Figure:
    return lambda shelf: metrics.popularity_share([shelf], titles) if shelf else float("nan")


def _varied(genres_of: Mapping[str, Sequence[str]]) -> Figure:
    return lambda shelf: metrics.intra_list_diversity(shelf, genres_of)


def _values(case: Case, system: str, figure: Figure) -> np.ndarray:
    return np.array([float("nan") if lists is None else figure(lists.shelf) for lists in case.comparison.systems[system]])


def _mean(case: Case, system: str, figure: Figure) -> float:
    values = _values(case, system, figure)
    return float(np.nanmean(values)) if np.isfinite(values).any() else 0.0

"""Lists that are the same for every member of a market with the same maturity limit: popular and similar titles."""

from collections.abc import Iterable
from itertools import chain

import numpy as np

from contracts.eligibility import Eligibility
from contracts.query import Profile
from serving import fallbacks
from serving.guard import guard
from serving.loader import Release
from serving.member import Viewer
from serving.metrics import Metrics


def popular(release: Release, eligibility: Eligibility, viewer: Viewer, size: int, metrics: Metrics) -> list[str]:
    """The market's popular titles that the viewer may see, filled with others where those are too few."""
    order = fallbacks.popular(release, Profile("", viewer.market))
    kept = _kept("fallback", order, eligibility, viewer, metrics)
    if len(kept) < size:
        seen = frozenset(kept)
        rest = (title for title in fallbacks.anything(release, eligibility) if title not in seen)
        kept = list(chain(kept, _kept("fallback", rest, eligibility, viewer, metrics)))
    return kept[:size]


def similar(
    release: Release, eligibility: Eligibility, viewer: Viewer, title_id: str, size: int, metrics: Metrics
) -> list[tuple[str, float]]:
    """The nearest titles by cosine over the release's item vectors (L2 norm 1), best first, exact.

    Raises KeyError where the release has no vector of `title_id`.
    """
    row = release.titles.row[title_id]
    scores_N = release.vectors_ND @ release.vectors_ND[row]
    nearest = (release.titles.ids[i] for i in np.argsort(-scores_N, kind="stable") if i != row)
    kept = _kept("similar", nearest, eligibility, viewer, metrics)[:size]
    return [(title, float(scores_N[release.titles.row[title]])) for title in kept]


def _kept(source: str, title_ids: Iterable[str], eligibility: Eligibility, viewer: Viewer, metrics: Metrics) -> list[str]:
    guarded = guard(title_ids, eligibility, viewer)
    metrics.count_removed((source, reason) for reason in guarded.removed.values())
    return guarded.kept

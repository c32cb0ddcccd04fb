"""Retrieve: a few hundred titles worth ranking, from three sources.

- the vector search, filtered by licence window and maturity inside the search;
- what others watched next after the newest history (the release's transitions);
- for a profile without history, what is popular in its market.

Shape suffixes: K candidates, N titles, D vector width.
"""

from dataclasses import dataclass
from itertools import islice

import numpy as np

from contracts.eligibility import Eligibility, search_filter
from serving import fallbacks
from serving.loader import Release
from serving.member import Member, Viewer
from serving.vectors import Vectors

TRANSITION_NEIGHBOURS = 50
POPULAR_FOR_COLD = 100
WATCHED_MARGIN = 500
"""At most so many more are asked for, to make up for watched titles, which the search does not filter."""

RETRIEVAL, TRANSITION, FALLBACK = "retrieval", "transition", "fallback"


@dataclass(frozen=True)
class Found:
    """The sources' titles in retrieval order, each once, with the source that named it first."""

    source: dict[str, str]


def search(release: Release, vectors: Vectors, query_D: np.ndarray, viewer: Viewer, watched: frozenset[str]) -> list[str]:
    """The nearest eligible, unwatched titles by the vector database, `pool_size` of them at most. Raises
    vectors.SearchFailed."""
    size = release.spec.pool_size
    expression = search_filter(viewer.market, viewer.maturity_limit, viewer.at)
    found = vectors.search(release.spec.collection, query_D, expression, size + min(len(watched), WATCHED_MARGIN))
    return [title_id for title_id in found if title_id not in watched][:size]


def search_exactly(
    release: Release, eligibility: Eligibility, query_D: np.ndarray, viewer: Viewer, watched: frozenset[str]
) -> list[str]:
    """The same answer without the vector database: every vector of the release, filtered by the log."""
    scores_N = release.vectors_ND @ query_D
    nearest = (release.titles.ids[row] for row in np.argsort(-scores_N, kind="stable"))
    allowed = (
        title_id for title_id in nearest if title_id not in watched
        and eligibility.why_not(title_id, viewer.market, viewer.maturity_limit, viewer.at) is None
    )
    return list(islice(allowed, release.spec.pool_size))


def combine(release: Release, nearest: list[str], member: Member) -> Found:
    """Nearest titles, then transition neighbours, then popular ones for a profile without history."""
    source = {title_id: RETRIEVAL for title_id in nearest if title_id in release.titles.row}
    for title_id in release.transitions.top(member.history.title_ids, TRANSITION_NEIGHBOURS):
        if title_id in release.titles.row:
            source.setdefault(title_id, TRANSITION)
    if not len(member.history):
        for title_id in fallbacks.popular(release, member.profile)[:POPULAR_FOR_COLD]:
            if title_id in release.titles.row:
                source.setdefault(title_id, FALLBACK)
    return Found(source)

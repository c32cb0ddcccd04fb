"""Retrieve: a few hundred titles worth ranking, from four sources.

- the vector search, filtered by licence window and maturity inside the search, and beside it an exact search among the
  titles that arrived or changed since the release was built, filtered by the eligibility log;
- one or two of those that arrived, in turn: what nobody has watched yet is near to nobody;
- what others watched next after the newest history (the release's transitions);
- for a profile without history, what is popular in its market.

Shape suffixes: K candidates, N titles, D vector width.
"""

import zlib
from collections.abc import Iterator
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
HIDDEN_MARGIN = 500
"""At most so many more are asked for, to make up for titles that the search does not filter: watched ones and the overlay's."""

RETRIEVAL, TRANSITION, FALLBACK, LAUNCH = "retrieval", "transition", "fallback", "launch"

NEWEST_LAUNCHES = 5
"""So many of a viewer's newest titles take turns: a member who looks in for two minutes is shown each."""
TURN_SECONDS = 20
"""As often as launches are looked for. With turns of a minute, where 25 titles came to a market of ten members within four
minutes, one waited 319 s for its draw."""
KNUTH = 2654435761


@dataclass(frozen=True)
class Found:
    """The sources' titles in retrieval order, each once, with the source that named it first. `launches` are those whose
    turn it is, whoever named them."""

    source: dict[str, str]
    launches: tuple[str, ...] = ()


def search(
    release: Release, eligibility: Eligibility, vectors: Vectors, query_D: np.ndarray, viewer: Viewer, watched: frozenset[str]
) -> list[str]:
    """The nearest eligible, unwatched titles, `pool_size` of them at most: by the vector database, which does not speak
    for the overlay's, and exactly among those. Raises vectors.SearchFailed."""
    collection, hidden = release.spec.collection_for(viewer.market), release.overlay.ids
    if collection is None:  # a market that is newer than the release
        return search_exactly(release, eligibility, query_D, viewer, watched)
    size = release.spec.pool_size
    expression = search_filter(viewer.market, viewer.maturity_limit, viewer.at)
    found = vectors.search(collection, query_D, expression, size + min(len(watched) + release.overlay.changed, HIDDEN_MARGIN))
    base = [title_id for title_id in found if title_id not in watched and title_id not in hidden][:size]
    return _with_overlay(release, eligibility, base, query_D, viewer, watched) if hidden else base


def _with_overlay(
    release: Release, eligibility: Eligibility, base: list[str], query_D: np.ndarray, viewer: Viewer, watched: frozenset[str]
) -> list[str]:
    """Base and overlay titles together, the nearest `pool_size` of them."""
    size, overlay = release.spec.pool_size, release.overlay
    rows_K = release.titles.rows(base)
    scores_K, scores_O = release.scores_K(query_D, rows_K), release.scores_K(query_D, overlay.rows_O)
    worst = scores_K.min() if len(base) >= size else -np.inf
    near_O = np.flatnonzero(scores_O > worst)
    near_O = near_O[np.argsort(-scores_O[near_O], kind="stable")]
    ids = release.titles.ids
    allowed = list(islice((o for o in near_O if _allowed(ids[overlay.rows_O[o]], eligibility, viewer, watched)), size))
    rows_K = np.concatenate([rows_K, overlay.rows_O[allowed]])
    order_K = np.argsort(-np.concatenate([scores_K, scores_O[allowed]]), kind="stable")[:size]
    return [release.titles.ids[row] for row in rows_K[order_K]]


def search_exactly(
    release: Release, eligibility: Eligibility, query_D: np.ndarray, viewer: Viewer, watched: frozenset[str]
) -> list[str]:
    """The same answer without the vector database: every vector of the release, filtered by the log."""
    scores_N = release.vectors_ND @ query_D
    nearest = (release.titles.ids[row] for row in np.argsort(-scores_N, kind="stable"))
    allowed = (title_id for title_id in nearest if _allowed(title_id, eligibility, viewer, watched))
    return list(islice(allowed, release.spec.pool_size))


def launches(
    release: Release, eligibility: Eligibility, viewer: Viewer, watched: frozenset[str], profile_id: str
) -> tuple[str, ...]:
    """Of the titles that arrived since the release was built and that the viewer may see: one of the newest, in turn, and
    one of the others by a hash of profile, title and turn (the next of the newest where there is no other). The same
    for the same request."""
    arrived = release.titles.ids[release.overlay.base:]
    newest = list(islice((t for t in reversed(arrived) if _allowed(t, eligibility, viewer, watched)), NEWEST_LAUNCHES))
    if not newest:
        return ()
    turn = zlib.crc32(profile_id.encode()) + viewer.at // TURN_SECONDS
    first = newest[turn % len(newest)]
    others = _by_hash(release, turn) if len(newest) == NEWEST_LAUNCHES else ()  # else there are no others to be seen
    second = next((t for t in others if t not in newest and _allowed(t, eligibility, viewer, watched)), newest[(turn + 1) % len(newest)])
    return tuple(dict.fromkeys((first, second)))


def _by_hash(release: Release, turn: int) -> Iterator[str]:
    """The titles that arrived, in an order of their own for each turn: multiplicative hashing (Knuth, The Art of Computer
    Programming, volume 3, section 6.4)."""
    overlay = release.overlay
    key_A = (overlay.hash_A ^ np.uint32(turn * KNUTH % 2**32)) * np.uint32(KNUTH)
    return (release.titles.ids[overlay.base + i] for i in np.argsort(key_A, kind="stable"))


def _allowed(title_id: str, eligibility: Eligibility, viewer: Viewer, watched: frozenset[str]) -> bool:
    return title_id not in watched and eligibility.why_not(title_id, viewer.market, viewer.maturity_limit, viewer.at) is None


def combine(release: Release, nearest: list[str], member: Member, launched: tuple[str, ...] = ()) -> Found:
    """Nearest titles, then transition neighbours, then popular ones for a profile without history, then launches."""
    source = {title_id: RETRIEVAL for title_id in nearest if title_id in release.titles.row}
    for title_id in release.transitions.top(member.history.title_ids, TRANSITION_NEIGHBOURS):
        if title_id in release.titles.row:
            source.setdefault(title_id, TRANSITION)
    if not len(member.history):
        for title_id in fallbacks.popular(release, member.profile)[:POPULAR_FOR_COLD]:
            if title_id in release.titles.row:
                source.setdefault(title_id, FALLBACK)
    for title_id in launched:
        source.setdefault(title_id, LAUNCH)
    return Found(source, launched)

"""The path of a shelf: hydrate → retrieve → guard → score → arrange, on one release and one snapshot of the log.

A stage that fails is replaced by what `fallbacks.py` names and listed in `degraded`; the guard is the exception: what
it cannot check is not shown.
"""

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np

from contracts.eligibility import Eligibility
from serving import fallbacks, retrieve
from serving.arrange import Pick, arrange, expose, fill, interleave
from serving.guard import guard
from serving.hydrate import Hydrator
from serving.loader import Release
from serving.member import Ask, Member, Viewer
from serving.metrics import Metrics
from serving.vectors import Vectors

log = logging.getLogger("marquee.serving")
T = TypeVar("T")


class Seldom:
    """Says why a stage failed at most every ten seconds: metrics count, the log explains."""

    SECONDS = 10.0

    def __init__(self) -> None:
        self._said: dict[str, float] = {}

    def warn(self, stage: str, error: Exception) -> None:
        now = time.monotonic()
        if now - self._said.get(stage, -self.SECONDS) >= self.SECONDS:
            self._said[stage] = now
            log.warning("%s failed: %s: %s", stage, type(error).__name__, str(error).partition("\n")[0])


SAY = Seldom()


@dataclass(frozen=True)
class Clients:
    """What a request talks to besides its release."""

    hydrator: Hydrator
    vectors: Vectors
    metrics: Metrics


@dataclass(frozen=True)
class Pool:
    """The candidates in retrieval order with both scores; (K,) each."""

    title_ids: list[str]
    retrieval_K: np.ndarray
    ranker_K: np.ndarray


@dataclass(frozen=True)
class Shelf:
    """One answer, before it is put into words. `unranked` is what the shelf would be without the ranker: the retrieval
    order, arranged just the same; empty unless it was asked for."""

    member: Member
    picks: list[Pick]
    unranked: list[Pick]
    pool: Pool
    degraded: list[str]
    no_eligible_titles: bool


@dataclass
class Stages:
    """Times the stages of one request and remembers which were degraded."""

    metrics: Metrics
    degraded: list[str] = field(default_factory=list)

    def attempt(self, name: str, first: Callable[[], T], otherwise: Callable[[], T]) -> T:
        """`first`, or where it fails `otherwise` and a degraded stage."""
        with self.metrics.stage(name):
            try:
                return first()
            except Exception as error:
                SAY.warn(name, error)
                self.degrade(name)
                return otherwise()

    def guard(
        self, source: Mapping[str, str], eligibility: Eligibility, viewer: Viewer, watched: frozenset[str]
    ) -> list[str]:
        """The titles of `source` (title to the source that named it) that may be shown, in their order."""
        with self.metrics.stage("guard"):
            guarded = guard(source, eligibility, viewer, watched)
        self.metrics.count_removed((source[title_id], reason) for title_id, reason in guarded.removed.items())
        return guarded.kept

    def guard_fallback(
        self, title_ids: Iterable[str], eligibility: Eligibility, viewer: Viewer, watched: frozenset[str]
    ) -> list[str]:
        return self.guard(dict.fromkeys(title_ids, retrieve.FALLBACK), eligibility, viewer, watched)

    def degrade(self, name: str) -> None:
        if name not in self.degraded:
            self.degraded.append(name)
            self.metrics.degraded.labels(name).inc()


def shelf(
    ask: Ask, release: Release, eligibility: Eligibility, clients: Clients, unranked: bool = False
) -> Shelf:
    """The shelf for `ask`."""
    stages = Stages(clients.metrics)
    member = stages.attempt("hydrate", lambda: clients.hydrator.hydrate(ask), lambda: fallbacks.cold(ask))
    viewer = member.viewer(ask.moment)
    watched = frozenset() if ask.shows_watched else member.watched

    query_D, found = _retrieve(stages, ask, member, viewer, watched, release, eligibility, clients.vectors)
    kept = stages.guard(found.source, eligibility, viewer, watched)
    pool, picks = _score(stages, ask, member, release, query_D, found, kept)
    launched = [pick for pick in picks if pick.title_id in found.launches]

    def arranged(picks: list[Pick]) -> list[Pick]:
        shown = _arrange(stages, ask, member, viewer, watched, release, eligibility, picks)
        return expose(shown, launched, ask.size, retrieve.LAUNCH)

    with clients.metrics.stage("arrange"):
        shown = arranged(picks)
    if not shown:
        clients.metrics.empty.inc()
    plain = arranged([replace(pick, score=pick.retrieval_score) for pick in picks]) if unranked else []
    return Shelf(member, shown, plain, pool, stages.degraded, no_eligible_titles=not shown)


def _retrieve(
    stages: Stages, ask: Ask, member: Member, viewer: Viewer, watched: frozenset[str], release: Release,
    eligibility: Eligibility, vectors: Vectors,
) -> tuple[np.ndarray | None, retrieve.Found]:
    """The query vector and what the sources found; nothing of either where the tower itself fails."""
    query_D = stages.attempt("retrieve", lambda: release.query_D(member.history, member.profile, ask.context), lambda: None)
    if query_D is None:
        return None, retrieve.Found({})
    nearest = stages.attempt(
        "retrieve",
        lambda: retrieve.search(release, eligibility, vectors, query_D, viewer, watched),
        lambda: retrieve.search_exactly(release, eligibility, query_D, viewer, watched),
    )
    launched = () if ask.shows_watched else retrieve.launches(release, eligibility, viewer, watched, ask.profile_id)
    return query_D, retrieve.combine(release, nearest, member, launched)


def _score(
    stages: Stages, ask: Ask, member: Member, release: Release, query_D: np.ndarray | None, found: retrieve.Found,
    title_ids: list[str],
) -> tuple[Pool, list[Pick]]:
    """The kept candidates in retrieval order, and as picks with all their scores."""
    if query_D is None or not title_ids:
        return Pool([], np.zeros(0), np.zeros(0)), []
    rows_K = release.titles.rows(title_ids)
    retrieval_K = release.scores_K(query_D, rows_K)
    order_K = np.argsort(-retrieval_K, kind="stable")
    rows_K, retrieval_K = rows_K[order_K], retrieval_K[order_K]
    ids = [release.titles.ids[row] for row in rows_K]
    candidates = release.candidates(rows_K, retrieval_K, member.history, int(ask.moment.timestamp()))
    ranker_K = stages.attempt(
        "score",
        lambda: release.ranker.score(
            release.asker(member.profile, ask.context, member.history, member.aggregates), candidates),
        lambda: retrieval_K,
    )
    picks = [
        Pick(title_id, found.source[title_id], float(score), float(near), float(follows), float(together), series, genres[0] if genres else "")
        for title_id, score, near, follows, together, series, genres in zip(
            ids, ranker_K, retrieval_K, candidates.transition_score, candidates.cowatch_score, candidates.series_id, candidates.genres, strict=True)
    ]
    return Pool(ids, retrieval_K, ranker_K), picks


def _arrange(
    stages: Stages, ask: Ask, member: Member, viewer: Viewer, watched: frozenset[str], release: Release,
    eligibility: Eligibility, picks: list[Pick],
) -> list[Pick]:
    """The shelf, filled up with popular titles; where there is still nothing, with anything that may be shown."""
    shelf = arrange(picks, ask.size)
    if len(shelf) == ask.size and member.known:
        return shelf
    popular = stages.guard_fallback(fallbacks.popular(release, member.profile), eligibility, viewer, watched)
    if not member.known:
        known = {pick.title_id: pick for pick in picks}
        shelf = interleave(shelf, [known.get(t, Pick(t, retrieve.FALLBACK)) for t in popular[:ask.size]], ask.size)
    shelf = fill(shelf, popular, ask.size, retrieve.FALLBACK)
    return shelf or _last_resort(stages, ask, viewer, watched, release, eligibility)


def _last_resort(
    stages: Stages, ask: Ask, viewer: Viewer, watched: frozenset[str], release: Release, eligibility: Eligibility
) -> list[Pick]:
    """Anything that may be shown; watched titles, and a degraded answer, where there is nothing else."""
    picks: list[Pick] = []
    for unwanted in (watched, frozenset()):
        anything = stages.guard_fallback(fallbacks.anything(release, eligibility), eligibility, viewer, unwanted)
        picks = fill([], anything, ask.size, retrieve.FALLBACK)
        if picks:
            if watched and not unwanted:
                stages.degrade("arrange")
            break
    return picks

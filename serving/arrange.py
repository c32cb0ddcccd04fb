"""Arrange: the order a person sees. Best score first, with short runs of one series or one genre, then filled up."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

MAX_RUN_OF_SERIES = 2
MAX_RUN_OF_GENRE = 4
LOOK_AHEAD = 40
"""A run is broken only by a title among the next so many: diversity must not cost the whole order."""


LAUNCH_PLACES = (4, 14)
"""Where titles that just arrived are shown (from 0): among what is seen without scrolling, never first, two at most."""


@dataclass(frozen=True)
class Pick:
    """One title on the shelf; scores are None where no stage computed one."""

    title_id: str
    source: str
    score: float | None = None
    retrieval_score: float | None = None
    transition_score: float | None = None
    cowatch_score: float | None = None
    series: str = ""
    genre: str = ""


def arrange(picks: Sequence[Pick], size: int) -> list[Pick]:
    """The best `size` of the picks by score (equal scores: by title id), runs kept short."""
    waiting = sorted(picks, key=lambda p: (-(p.score or 0.0), p.title_id))
    shelf: list[Pick] = []
    while waiting and len(shelf) < size:
        ahead = range(min(LOOK_AHEAD, len(waiting)))
        shelf.append(waiting.pop(next((i for i in ahead if not _lengthens_run(shelf, waiting[i])), 0)))
    return shelf


def interleave(ranked: Sequence[Pick], popular: Sequence[Pick], size: int) -> list[Pick]:
    """Popular and ranked in turn, each title once: for a profile that nothing is known of."""
    turns = [pick for pair in zip(popular, ranked, strict=False) for pick in pair]
    rest = [*popular[len(ranked):], *ranked[len(popular):]]
    first: dict[str, Pick] = {}
    for pick in [*turns, *rest]:
        first.setdefault(pick.title_id, pick)
    return list(first.values())[:size]


def expose(shelf: Sequence[Pick], launches: Sequence[Pick], size: int, source: str) -> list[Pick]:
    """The shelf with a place for each of `launches` that has none by its score, so far as there are places."""
    exposed, on_shelf = list(shelf), {pick.title_id for pick in shelf}
    waiting = [replace(pick, source=source) for pick in launches if pick.title_id not in on_shelf]
    for place, pick in zip(LAUNCH_PLACES, waiting, strict=False):
        if place < size:
            exposed.insert(place, pick)
    return exposed[:size]


def fill(shelf: Sequence[Pick], more: Iterable[str], size: int, source: str) -> list[Pick]:
    """The shelf, filled up to `size` from titles that were guarded already, none twice."""
    filled, on_shelf = list(shelf), {pick.title_id for pick in shelf}
    for title_id in more:
        if len(filled) >= size:
            break
        if title_id not in on_shelf:
            on_shelf.add(title_id)
            filled.append(Pick(title_id, source))
    return filled


def _lengthens_run(shelf: Sequence[Pick], pick: Pick) -> bool:
    return _run(shelf, "series", pick.series, MAX_RUN_OF_SERIES) or _run(shelf, "genre", pick.genre, MAX_RUN_OF_GENRE)


def _run(shelf: Sequence[Pick], name: str, value: str, longest: int) -> bool:
    """The last `longest` titles all have this value already."""
    tail = shelf[-longest:]
    return bool(value) and len(tail) == longest and all(getattr(pick, name) == value for pick in tail)

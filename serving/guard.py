"""Guard: the independent check of every title against the eligibility log, after the filter inside the search.

Pure: returns what it kept and what it removed, with reasons. Whatever is not known to be allowed is removed.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from contracts.eligibility import Eligibility
from serving.member import Viewer

WATCHED = "watched"


@dataclass(frozen=True)
class Guarded:
    """`kept` keeps the given order; `removed` maps each title to why."""

    kept: list[str] = field(default_factory=list)
    removed: dict[str, str] = field(default_factory=dict)


def guard(
    title_ids: Iterable[str], eligibility: Eligibility, viewer: Viewer, watched: frozenset[str] = frozenset()
) -> Guarded:
    """Splits titles into those that the viewer may see now and has not watched, and the rest."""
    result = Guarded()
    for title_id in title_ids:
        reason = eligibility.why_not(title_id, viewer.market, viewer.maturity_limit, viewer.at)
        if reason is None and title_id in watched:
            reason = WATCHED
        if reason is None:
            result.kept.append(title_id)
        else:
            result.removed[title_id] = reason
    return result

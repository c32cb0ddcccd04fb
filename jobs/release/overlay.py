"""The overlay: titles that arrived or changed since a release was built, embedded by that release's own item tower and
appended beside it, for each release that serves or may serve next.

A title enters where its newest version differs from what the release knows, or where the windows that the release's
collections know no longer find it when it is licensed: from then on it is searched for in process, by the eligibility log
alone. Its number, not the moment of this job, decides what an answer is computed from.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from contracts import clock
from contracts.content import Content, content_json
from contracts.eligibility import Eligibility, still_holds
from contracts.errors import MarqueeError
from contracts.overlay import OverlayRecord
from contracts.release import ITEM_TOWER, ITEM_VECTORS, TITLES, State
from contracts.settings import Settings
from jobs.embed import Embedder
from jobs.release import files
from ledger import Ledger

log = logging.getLogger("marquee")

MAY_SERVE = (State.JUDGED, State.AWAITING_APPROVAL, State.PROBING, State.LIVE)
BATCH = 256


def kept(ledger: Ledger) -> list[str]:
    """Releases that serve, may serve next, or may be returned to: their overlays are kept up."""
    pointer, releases = ledger.pointer(), ledger.releases()
    named = {pointer.release_id, pointer.candidate, pointer.previous} if pointer else set()
    named |= set(ledger.retired()[:1])
    return [row.release_id for row in releases if row.state in MAY_SERVE or row.release_id in named]


def catch_up_all(settings: Settings, ledger: Ledger, releases: Iterable[str]) -> dict[str, Any]:
    """Each release's overlay up to the head of the log. MarqueeError, after the others, names those that failed."""
    added, wrong = {}, []
    for release_id in releases:
        try:
            added[release_id] = catch_up(settings, ledger, release_id)
        except Exception as error:  # whatever a damaged file raises: the others' launches go on
            wrong.append(f"{release_id}: {error}" if isinstance(error, MarqueeError) else f"{release_id}: {type(error).__name__}: {error}")
    if wrong:
        raise MarqueeError(f"the overlay is not complete: {'; '.join(wrong)}")
    return {"overlay": {release_id: count for release_id, count in added.items() if count}}


def catch_up(settings: Settings, ledger: Ledger, release_id: str) -> int:
    """Brings one release's overlay to the head of the eligibility log; returns how many records were appended."""
    head, through = ledger.eligibility_head(), ledger.overlay_through(release_id)
    if through >= head:
        return 0
    base, known = Base(settings, ledger, release_id), ledger.overlay_titles(release_id)
    touched = ledger.titles_since(through)
    contents = ledger.title_contents(touched)
    embed, moved = [], []
    for title_id, (seq, content) in contents.items():
        if content != known.get(title_id, base.contents.get(title_id)):
            embed.append((title_id, seq, content))
        elif title_id not in known:
            moved.append(title_id)
    moved = base.not_found(moved, licences(ledger, moved), int(clock.now(settings.home).timestamp()))
    records = [*base.embedded(embed, settings), *base.with_own_vector(moved, contents)]
    added = ledger.append_overlay(release_id, sorted(records, key=lambda record: record.title_seq), head)
    if added:
        log.info("overlay of %s: %d titles arrived or changed, %d licensed anew", release_id, len(embed), len(moved))
    return added


def licences(ledger: Ledger, title_ids: Sequence[str]) -> Eligibility:
    """The log's state of some titles."""
    state = Eligibility()
    state.apply(ledger.eligibility_of(title_ids))
    return state


class Base:
    """What a release knew when it was built; MarqueeError where its files are not what was sealed."""

    def __init__(self, settings: Settings, ledger: Ledger, release_id: str):
        self.folder = settings.releases / release_id
        files.verify_payload(settings, ledger.get(release_id), (TITLES, ITEM_VECTORS, ITEM_TOWER))

    @cached_property
    def rows(self) -> dict[str, int]:
        return {title_id: row for row, title_id in enumerate(pq.read_table(self.folder / TITLES, columns=["title_id"])["title_id"].to_pylist())}

    @cached_property
    def contents(self) -> dict[str, dict[str, Any]]:
        return {row["title_id"]: content_json(row) for row in pq.read_table(self.folder / TITLES).to_pylist()}

    def not_found(self, title_ids: Sequence[str], state: Eligibility, at: int) -> list[str]:
        """Those that the collections would not find, now or later, while they are licensed."""
        indexed, licensed = self._indexed(title_ids), state.markets()
        return [
            title_id for title_id in title_ids
            if not all(still_holds(indexed[title_id].get(market), state.spans(title_id, market, at), at)
                       for market in licensed if (title_id, market) in state.windows)
        ]

    def embedded(self, titles: Sequence[tuple[str, int, Mapping[str, Any]]], settings: Settings) -> Iterator[OverlayRecord]:
        """Records of (title, number, content) by the item tower; a title that it was trained with keeps its id."""
        if not titles:
            return
        embedder = Embedder(self.folder / ITEM_TOWER, settings.device, settings.threads)
        id_index = {title_id: i for i, title_id in enumerate(embedder.id_titles, 1)}
        contents = [Content.of({"title_id": title_id, **content}) for title_id, _, content in titles]
        vectors_ND = embedder.embed(contents, np.array([id_index.get(title_id, 0) for title_id, _, _ in titles]), BATCH)
        for (title_id, seq, content), vector_D in zip(titles, vectors_ND, strict=True):
            yield OverlayRecord(0, title_id, seq, content, vector_D)

    def with_own_vector(
        self, title_ids: Sequence[str], contents: Mapping[str, tuple[int, Mapping[str, Any]]]
    ) -> Iterator[OverlayRecord]:
        """Records of titles whose content is the release's."""
        vectors_TD = np.load(self.folder / ITEM_VECTORS, mmap_mode="r")
        for title_id in title_ids:
            seq, content = contents[title_id]
            yield OverlayRecord(0, title_id, seq, content, np.array(vectors_TD[self.rows[title_id]]))

    def _indexed(self, title_ids: Sequence[str]) -> dict[str, dict[str, tuple[int, int]]]:
        """title -> market -> the window that the collections know; a release from before they were written down knows none."""
        found: dict[str, dict[str, tuple[int, int]]] = {title_id: {} for title_id in title_ids}
        if not title_ids or "windows" not in pq.read_schema(self.folder / TITLES).names:
            return found
        windows = pq.read_table(self.folder / TITLES, columns=["windows"])["windows"]
        for title_id in title_ids:
            for window in windows[self.rows[title_id]].as_py() or ():
                found[title_id][window["market"]] = (window["opens_at"], window["closes_at"])
        return found

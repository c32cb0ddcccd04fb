"""A release with its overlay: titles that arrived or changed since it was built, as further and replaced rows of the same
columns, in a new object; a request in flight keeps the one that it began with.

Rows depend on the records alone, not on how many of them were read at once: equal numbers, equal shelves.

Shape suffixes: N titles, O of them in the overlay, D vector width.
"""

import zlib
from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from contracts.overlay import OverlayRecord
from ledger import Ledger
from serving.loader import Overlay, Release, ReleaseError, Titles

CONTENT_COLUMNS = ("year", "runtime_minutes", "maturity")


class Foreign(Exception):
    """The ledger's overlay is not the one that was read before: it was put back from a copy."""


def caught_up(release: Release, ledger: Ledger) -> Release:
    """The release with its overlay up to the head; the same object where nothing is new. Raises ReleaseError for a record
    that does not fit, Foreign where its last record is no longer there, and what the database raises."""
    last = release.overlay.last
    records = ledger.overlay_since(release.release_id, release.overlay.seq - 1 if last else 0)
    if last is None:
        return extended(release, records)
    if not records or (records[0].seq, records[0].title_id, records[0].title_seq) != (release.overlay.seq, *last):
        raise Foreign(f"overlay {release.overlay.seq} of {release.release_id} is no longer there")
    return extended(release, records[1:])


def extended(release: Release, records: Iterable[OverlayRecord]) -> Release:
    """The release with further records, which are in order."""
    newest = {record.title_id: record for record in records}
    if not newest:
        return release
    titles = _titles(release.titles, newest)
    vectors_ND = np.zeros((len(titles.ids), release.spec.dimension), np.float32)
    vectors_ND[: len(release.vectors_ND)] = release.vectors_ND
    for title_id, record in newest.items():
        if record.vector_D.shape != vectors_ND.shape[1:]:
            raise ReleaseError(f"overlay {record.seq} of {release.release_id}: a vector of shape {record.vector_D.shape}")
        vectors_ND[titles.row[title_id]] = record.vector_D
    rows_O = np.union1d(release.overlay.rows_O, titles.rows(newest))
    base = release.overlay.base
    last = max(newest.values(), key=lambda record: record.seq)
    overlay = Overlay(
        last.seq, base, rows_O, frozenset(titles.ids[row] for row in rows_O),
        np.fromiter((zlib.crc32(title_id.encode()) for title_id in titles.ids[base:]), np.uint32),
        (last.title_id, last.title_seq),
    )
    return replace(release, titles=titles, vectors_ND=vectors_ND, overlay=overlay)


def _titles(titles: Titles, newest: dict[str, OverlayRecord]) -> Titles:
    """New titles after the others, in order of arrival, without counts; changed ones keep their counts."""
    arrived = [title_id for title_id in newest if title_id not in titles.row]
    row = titles.row | {title_id: len(titles.ids) + i for i, title_id in enumerate(arrived)}
    unknown = np.full(len(arrived), np.nan)
    more = Titles(
        ids=[*titles.ids, *arrived], row=row, names=[*titles.names, *arrived], genres=[*titles.genres, *((),) * len(arrived)],
        language=[*titles.language, *("",) * len(arrived)], series_id=[*titles.series_id, *("",) * len(arrived)],
        launched_N=np.concatenate([titles.launched_N, unknown]),
        columns={name: np.concatenate([values, unknown]) for name, values in titles.columns.items()},
    )
    for title_id, record in newest.items():
        _set(more, row[title_id], record)
    _ = more.genres_of, more.series_of  # now, rather than in the next request
    return more


def _set(titles: Titles, row: int, record: OverlayRecord) -> None:
    content = record.content
    titles.names[row] = content.get("name") or record.title_id
    titles.genres[row] = tuple(content.get("genres") or ())
    titles.language[row], titles.series_id[row] = content.get("language") or "", content.get("series_id") or ""
    titles.launched_N[row] = content.get("launched_at", np.nan)
    for name in CONTENT_COLUMNS:
        titles.columns[name][row] = content.get(name, np.nan)

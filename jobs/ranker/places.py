"""The attention curve of a night: from the impressions at the tag that came before the ranker's block.

What follows a slate of the block may lie in the judge's day, so that no outcome of the block itself is counted.
"""

from collections.abc import Iterable
from datetime import datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.expressions import LessThan

from contracts.marts import tag_name
from contracts.settings import Settings
from contracts.tags import TagRecord
from jobs.attention import Attention, estimate
from jobs.lake import read

COLUMNS = ("position", "explored", "title_id", "device", "engagement")
KEYS = ("position", "explored", "title_id", "device")
COUNTS = pa.schema([("position", pa.int32()), ("explored", pa.bool_()), ("title_id", pa.string()), ("device", pa.string()),
                    ("shown", pa.int64()), ("played", pa.int64())])
MOST_PARTS = 50  # counted batches that wait to be joined


def attention_of(settings: Settings, record: TagRecord, seed: int) -> Attention:
    """Estimated from every impression before the block; none where the source logs no slates."""
    if not record.has_impressions:
        return Attention("none")
    counts = counted(_batches(settings, record.ds, record.split.retriever_end))
    return estimate(
        pc.cast(counts["position"], pa.float64()).to_numpy(), counts["played"].to_numpy(),
        pc.fill_null(counts["explored"], False).to_numpy(zero_copy_only=False), _labels(counts["title_id"])[1],
        np.take(*_labels(pc.fill_null(counts["device"], ""))), counts["shown"].to_numpy(), seed,
    )


def _batches(settings: Settings, ds: str, until: datetime) -> Iterable[pa.RecordBatch]:
    return read.batches(settings, "marts.fct_impression", tag_name(ds), COLUMNS, LessThan("event_time", until.isoformat()))


def counted(batches: Iterable[pa.RecordBatch]) -> pa.Table:
    """Impressions (`shown`) and plays (`played`) by KEYS, sorted: as small as titles times places, however many rows."""
    parts = [COUNTS.empty_table()]
    for batch in batches:
        table = pa.Table.from_batches([batch])
        ones = pa.array(np.ones(len(table), np.int64))
        played = pc.cast(pc.greater(table["engagement"], 0), pa.int64())
        rows = table.select(list(KEYS)).append_column("shown", ones).append_column("played", played)
        parts.append(_summed(rows.cast(COUNTS)))
        if len(parts) > MOST_PARTS:
            parts = [_summed(pa.concat_tables(parts))]
    return _summed(pa.concat_tables(parts)).sort_by([(name, "ascending") for name in KEYS])


def _summed(table: pa.Table) -> pa.Table:
    found = table.group_by(list(KEYS)).aggregate([("shown", "sum"), ("played", "sum")])
    return found.rename_columns({"shown_sum": "shown", "played_sum": "played"}).select([*KEYS, "shown", "played"])


def _labels(column: pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
    """Distinct values, and each row's number among them."""
    encoded = column.combine_chunks().dictionary_encode()
    return np.array(encoded.dictionary.to_pylist(), str), encoded.indices.to_numpy(zero_copy_only=False)

"""Lost collections, made again from the release's own files: what `marquee doctor` calls.

The files say what was indexed: vectors, maturities and licence windows. Later titles are in the overlay, which serving
reads beside the collections.
"""

from contextlib import closing
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from contracts.eligibility import Eligibility
from contracts.release import ITEM_VECTORS, PROVENANCE, SPEC, TITLES, Provenance, ReleaseSpec
from contracts.settings import Settings
from jobs.index import catalogue, collection
from jobs.index.build import load_all
from jobs.index.config import IndexConfig


def run(settings: Settings, release_id: str) -> int:
    """Titles in the collections, which are loaded and proved as the build proves them; a right one stays. MarqueeError
    where Milvus does not answer, or holds a wrong one that an alias points at."""
    folder = settings.releases / release_id
    split = Provenance.model_validate_json((folder / PROVENANCE).read_text()).tag.split
    spec = ReleaseSpec.model_validate_json((folder / SPEC).read_text())
    at = catalogue.seconds(split.judge_end)
    state = indexed(folder)
    title_ids = pq.read_table(folder / TITLES, columns=["title_id"])["title_id"].to_pylist()
    rows = collection.collection_rows(title_ids, np.load(folder / ITEM_VECTORS), state, at, spec.markets)
    with closing(collection.connect(settings)) as client:
        load_all(client, spec.collection, rows, state, at, IndexConfig())
    return len(rows)


def indexed(folder: Path) -> Eligibility:
    """What the collections know of maturities and licences."""
    titles = pq.read_table(folder / TITLES, columns=["title_id", "maturity", "windows"])
    return Eligibility(
        maturity=dict(zip(titles["title_id"].to_pylist(), titles["maturity"].to_pylist())),
        windows={(title, window["market"]): {"indexed": (window["opens_at"], window["closes_at"])}
                 for title, windows in zip(titles["title_id"].to_pylist(), titles["windows"].to_pylist()) for window in windows or ()},
    )

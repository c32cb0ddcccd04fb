"""A lost collection, made again from the release's own files: what `marquee doctor` calls.

The files say what was indexed: vectors, maturities and, where titles.parquet has them, licence windows; else the windows
are those that the eligibility log knows. Later titles are in the overlay, which serving reads beside the collection.
"""

from contextlib import closing

import numpy as np
import pyarrow.parquet as pq

from contracts.eligibility import Eligibility
from contracts.release import ITEM_VECTORS, PROVENANCE, TITLES, Provenance, collection_name
from contracts.settings import Settings
from jobs.index import catalogue, collection
from jobs.index.build import load_checked
from jobs.index.config import IndexConfig
from ledger import Ledger, open_ledger


def run(settings: Settings, release_id: str) -> int:
    """Rows of the collection, which is loaded and proved as the build proves it; a right one stays. MarqueeError where
    Milvus does not answer, or holds a wrong one that an alias points at."""
    folder = settings.releases / release_id
    split = Provenance.model_validate_json((folder / PROVENANCE).read_text()).tag.split
    at = catalogue.seconds(split.judge_end)
    state = indexed(folder, open_ledger(settings))
    title_ids = pq.read_table(folder / TITLES, columns=["title_id"])["title_id"].to_pylist()
    rows = collection.collection_rows(title_ids, np.load(folder / ITEM_VECTORS), state, at)
    with closing(collection.connect(settings)) as client:
        load_checked(client, collection_name(release_id), rows, state, at, IndexConfig())
    return len(rows)


def indexed(folder, ledger: Ledger) -> Eligibility:
    """What the collection knows of maturities and licences."""
    titles = pq.read_table(folder / TITLES)
    if "windows" not in titles.column_names:
        known = Eligibility()
        while records := ledger.eligibility_since(known.seq):
            known.apply(records)
        return known
    return Eligibility(
        maturity=dict(zip(titles["title_id"].to_pylist(), titles["maturity"].to_pylist())),
        windows={(title, window["market"]): {"indexed": (window["opens_at"], window["closes_at"])}
                 for title, windows in zip(titles["title_id"].to_pylist(), titles["windows"].to_pylist()) for window in windows or ()},
    )

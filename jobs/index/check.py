"""Proves a collection before anybody searches it: as many titles as the release, the same vectors and fields, and
filtered searches that equal exact ones and never return what is not eligible. Every check raises MarqueeError.
"""

from dataclasses import dataclass
from itertools import count

import numpy as np
from pymilvus import MilvusClient

from contracts import milvus
from contracts.eligibility import Eligibility, field_names, search_filter
from contracts.errors import MarqueeError
from contracts.release import titles_filter
from jobs.index.collection import Rows

MATURITY_LIMITS = (0, 7, 13, 18)
DAY = 86400


@dataclass(frozen=True)
class Checked:
    """What was looked at."""

    titles: int
    vectors: int
    searches: int
    returned: int
    recall: float


def check(
    client: MilvusClient, name: str, rows: Rows, state: Eligibility, at: int, *, seed: int, vectors: int, searches: int,
    size: int, minimum_recall: float,
) -> Checked:
    """Checks collection `name` against `rows`; searches at `at` (epoch seconds) and a day on."""
    random = np.random.default_rng(seed)
    check_count(client, name, rows)
    looked_at = check_fields(client, name, rows, np.sort(random.permutation(len(rows))[:vectors]))
    recalls, returned = [], 0
    for market, limit, moment in _cases(rows.markets, at, searches, random):
        query_D = rows.vectors_TD[random.integers(len(rows))] + random.normal(0, 0.1, rows.vectors_TD.shape[1])
        recall, found = check_search(client, name, rows, state, query_D.astype(np.float32), market, limit, moment, size)
        recalls.append(recall)
        returned += found
    recall = float(np.mean(recalls)) if recalls else 1.0
    if recall < minimum_recall:
        raise MarqueeError(f"collection {name}: filtered searches find {recall:.3f} of what exact search finds, less than {minimum_recall}")
    return Checked(len(rows), looked_at, len(recalls), returned, recall)


def check_count(client: MilvusClient, name: str, rows: Rows) -> None:
    held = milvus.count(client, name)
    if held != len(rows):
        raise MarqueeError(f"collection {name} has {held} titles, the release has {len(rows)}")


def check_fields(client: MilvusClient, name: str, rows: Rows, sample: np.ndarray) -> int:
    """Vectors and scalar fields of the sampled titles equal the files'."""
    wanted = titles_filter(rows.title_ids[i] for i in sample)
    found = client.query(name, filter=wanted, output_fields=["title_id", "vector", *rows.scalars])
    by_title = {row["title_id"]: row for row in found}
    for i in sample:
        title, row = rows.title_ids[i], by_title.get(rows.title_ids[i])
        if row is None:
            raise MarqueeError(f"collection {name} has no title {title}")
        if not np.allclose(np.asarray(row["vector"], np.float32), rows.vectors_TD[i], atol=1e-6):
            raise MarqueeError(f"collection {name}: the vector of {title} is not the release's")
        for field, values in rows.scalars.items():
            if row[field] != values[i]:
                raise MarqueeError(f"collection {name}: {field} of {title} is {row[field]}, should be {values[i]}")
    return len(sample)


def check_search(
    client: MilvusClient, name: str, rows: Rows, state: Eligibility, query_D: np.ndarray, market: str, limit: int,
    at: int, size: int,
) -> tuple[float, int]:
    """(recall against exact search under the same filter, titles returned); every one must be eligible by the log."""
    hits = client.search(name, data=[query_D.tolist()], filter=search_filter(market, limit, at), limit=size,
                         output_fields=["title_id"], search_params={"metric_type": "IP"})[0]
    titles = [hit["title_id"] for hit in hits]
    for title in titles:
        reason = state.why_not(title, market, limit, at)
        if reason:
            raise MarqueeError(f"collection {name}: a search for market {market}, maturity {limit} returned {title}: {reason}")
    exact = exact_search(rows, query_D, market, limit, at, size)
    return (len(exact & set(titles)) / len(exact) if exact else 1.0), len(titles)


def exact_search(rows: Rows, query_D: np.ndarray, market: str, limit: int, at: int, size: int) -> set[str]:
    """What the search must return, in plain numpy."""
    opens, closes = (rows.scalars[field] for field in field_names(market))
    allowed = np.flatnonzero((rows.scalars["maturity"] <= limit) & (opens <= at) & (closes > at))
    best = allowed[np.argsort(-(rows.vectors_TD[allowed] @ query_D), kind="stable")[:size]]
    return {rows.title_ids[i] for i in best}


def _cases(markets: list[str], at: int, searches: int, random: np.random.Generator) -> list[tuple[str, int, int]]:
    """A fixed choice of market, maturity limit and moment; every market once before any twice."""
    every = [(market, limit, at + later) for market in markets for limit in MATURITY_LIMITS for later in (0, DAY)]
    shuffled = [every[i] for i in random.permutation(len(every))]
    turns = {market: count() for market in markets}
    turn = {case: next(turns[case[0]]) for case in shuffled}
    return sorted(shuffled, key=turn.__getitem__)[:searches]

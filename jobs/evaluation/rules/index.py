"""What the vector database holds of the candidate, read once: the fields that filter, and vectors.

Shape suffixes: T titles of the release, row by row as in titles.parquet; D vector width.
"""

from collections import ChainMap
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from contracts import milvus
from contracts import release as names
from contracts.eligibility import NEVER_MATURITY, field_names, search_filter
from contracts.release import titles_filter
from jobs.evaluation.case import Case

BATCH = 1000


@dataclass
class Index:
    """The candidate's collections, one for each group of markets; `client` is None and `error` says why where they cannot be
    read. `count` is that of the emptiest."""

    case: Case
    client: Any
    count: int | None
    error: str

    @classmethod
    @contextmanager
    def open(cls, case: Case) -> Iterator["Index"]:
        from pymilvus import MilvusClient
        from pymilvus.exceptions import MilvusException

        try:
            client = MilvusClient(**case.settings.milvus_connection(), timeout=10)
        except MilvusException as error:
            yield cls(case, None, None, f"no vector database answers: {error}")
            return
        with closing(client):
            try:
                count = min(milvus.count(client, name) for name in case.spec.collections)
            except MilvusException as error:
                yield cls(case, None, None, f"{', '.join(case.spec.collections)} could not be counted: {error}")
                return
            yield cls(case, client, count, "")

    @cached_property
    def title_ids(self) -> list[str]:
        return self.case.titles["title_id"].to_pylist()

    @cached_property
    def vectors_TD(self) -> np.ndarray:
        """The release's own, from its file."""
        return np.load(self.case.folder / names.ITEM_VECTORS)

    @cached_property
    def rows(self) -> list[Mapping[str, Any] | None]:
        """(T,) what the collections have of each title: vector and scalar fields; None where one of them has it not."""
        found: list[dict[str, Mapping[str, Any]]] = []
        for collection, markets in self.case.spec.collections.items():
            fields = ["title_id", "vector", "maturity", *(f for market in markets for f in field_names(market))]
            found.append({})
            for start in range(0, len(self.title_ids), BATCH):
                batch = self.client.query(collection, filter=titles_filter(self.title_ids[start : start + BATCH]), output_fields=fields)
                found[-1] |= {row["title_id"]: row for row in batch}
        everywhere = set.intersection(*(set(rows) for rows in found))
        return [dict(ChainMap(*(rows[title] for rows in found))) if title in everywhere else None for title in self.title_ids]

    def field_T(self, name: str, missing: int) -> np.ndarray:
        return np.array([row[name] if row else missing for row in self.rows], np.int64)

    @cached_property
    def maturity_T(self) -> np.ndarray:
        return self.field_T("maturity", NEVER_MATURITY)

    @cached_property
    def windows(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """market -> (T,) opens and closes of the window that the filter reads."""
        return {market: tuple(self.field_T(name, 0) for name in field_names(market)) for market in self.case.spec.markets}

    def allowed_T(self, market: str, limit: int, at: int) -> np.ndarray:
        """(T,) bool: what the filter inside the search lets through."""
        opens_T, closes_T = self.windows[market]
        return (self.maturity_T <= limit) & (opens_T <= at) & (closes_T > at)

    def search(self, query_D: np.ndarray, market: str, limit: int, at: int, size: int) -> list[str]:
        """Titles by the vector database itself, nearest first."""
        hits = self.client.search(self.case.spec.collection_for(market), data=[query_D.tolist()], filter=search_filter(market, limit, at),
                                  limit=size, output_fields=["title_id"], search_params={"metric_type": "IP"})[0]
        return [hit["title_id"] for hit in hits]

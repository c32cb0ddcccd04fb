"""The vector database: one connection, a time budget for each search, and a watch on its health.

A watcher thread (live.py) calls `tend`; where it found that the database does not answer, or has not loaded a collection,
searches in it fail at once instead of waiting for their budget. A collection that is lost takes no other's search.
"""

import logging
import time
from collections.abc import Iterable, Mapping
from threading import Lock

import grpc
import numpy as np
from pymilvus import MilvusClient
from pymilvus.client.types import LoadState

from contracts import milvus
from contracts.settings import Settings

log = logging.getLogger("marquee.serving")
logging.getLogger("pymilvus").setLevel(logging.CRITICAL)  # each failed search would log a stack trace

CONNECT_SECONDS = 2.0
LOAD_SECONDS = 10.0
COUNT_SECONDS = 10.0
"""So long may a collection that lost titles be searched."""
ONLY_THE_KEY = ["title_id"]
"""Asked for nothing, Milvus Lite answers with every field: twice the time at 12 markets."""


class SearchFailed(Exception):
    """No answer within the budget; the caller searches in process."""


class Vectors:
    """Filtered search in pinned physical collections; safe to share between threads."""

    def __init__(self, settings: Settings, budget_seconds: float):
        self._connection = settings.milvus_connection()
        self._budget = budget_seconds
        self._client: MilvusClient | None = None
        self._connecting = Lock()
        self._loaded: set[str] = set()
        self._counted: dict[str, float] = {}  # when a collection was counted last, monotonic
        self._errors: dict[str, str] = {}  # what was said last, by collection

    def search(self, collection: str, query_D: np.ndarray, expression: str, limit: int) -> list[str]:
        """Title ids, nearest first. Raises SearchFailed."""
        client = self._client
        if client is None or not self.can_search([collection]):
            raise SearchFailed(f"the vector database does not answer for {collection}")
        try:
            hits = client.search(collection, [query_D], filter=expression, limit=limit, timeout=self._budget,
                                 output_fields=ONLY_THE_KEY)[0]
            return [hit["title_id"] for hit in hits]
        except Exception as error:
            raise SearchFailed(f"{collection}: {_in_short(error)}") from error

    def can_search(self, collections: Iterable[str]) -> bool:
        """Whether all of them were loaded when they were tended last."""
        return self._loaded.issuperset(collections)

    def tend(self, collections: Mapping[str, int]) -> bool:
        """Connects where needed, and loads those of the collections that are not (a restarted server has forgotten
        its load state). One that does not hold the given number of titles is not searched. Returns whether searches in all
        of them can be answered; never raises."""
        try:
            client = self._connected()
            client.list_collections(timeout=CONNECT_SECONDS)  # a database that is away: one wait, not one a collection
        except Exception as error:
            for collection in collections:
                self._note(collection, _in_short(error))
            return False
        for collection, titles in collections.items():
            self._note(collection, _load(client, collection) or self._missing(client, collection, titles))
        return self.can_search(collections)

    def _missing(self, client: MilvusClient, collection: str, titles: int) -> str:
        """How many titles it lacks, looked at now and then; empty where it is whole."""
        if collection in self._loaded and time.monotonic() - self._counted.get(collection, 0.0) < COUNT_SECONDS:
            return ""
        self._counted[collection] = time.monotonic()
        try:
            held = milvus.count(client, collection, CONNECT_SECONDS)
        except Exception as error:
            return _in_short(error)
        return "" if held == titles else f"it holds {held} of {titles} titles"

    def _note(self, collection: str, error: str) -> None:
        """Says it once."""
        if error and error != self._errors.get(collection):
            log.warning("no vector search in %s: %s", collection, error)
        self._errors[collection] = error
        (self._loaded.discard if error else self._loaded.add)(collection)

    def close(self) -> None:
        if self._client is not None:
            self._client.close()

    def _connected(self) -> MilvusClient:
        with self._connecting:
            if self._client is None:
                self._client = MilvusClient(**self._connection, timeout=CONNECT_SECONDS)
            return self._client


def _load(client: MilvusClient, collection: str) -> str:
    """What is wrong with the collection; empty where it is loaded now."""
    try:
        if client.get_load_state(collection, timeout=CONNECT_SECONDS)["state"] != LoadState.Loaded:
            client.load_collection(collection, timeout=LOAD_SECONDS)
    except Exception as error:
        return _in_short(error)
    return ""


def _in_short(error: Exception) -> str:
    """gRPC's own text is five lines."""
    if isinstance(error, grpc.RpcError):
        return f"{error.code().name}: {error.details()}"
    return f"{type(error).__name__}: {error}"

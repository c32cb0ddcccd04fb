"""The vector database: one connection, a time budget for each search, and a watch on its health.

A watcher thread (live.py) calls `tend`; while it says that the database does not answer, searches fail at once instead
of waiting for their budget.
"""

import logging
from threading import Lock

import grpc
import numpy as np
from pymilvus import MilvusClient
from pymilvus.client.types import LoadState

from contracts.settings import Settings

log = logging.getLogger("marquee.serving")
logging.getLogger("pymilvus").setLevel(logging.CRITICAL)  # each failed search would log a stack trace

CONNECT_SECONDS = 2.0
LOAD_SECONDS = 10.0
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
        self._error = ""
        self.answers = False

    def search(self, collection: str, query_D: np.ndarray, expression: str, limit: int) -> list[str]:
        """Title ids, nearest first. Raises SearchFailed."""
        client = self._client
        if client is None or not self.answers:
            raise SearchFailed("the vector database does not answer")
        try:
            hits = client.search(collection, [query_D], filter=expression, limit=limit, timeout=self._budget,
                                 output_fields=ONLY_THE_KEY)[0]
            return [hit["title_id"] for hit in hits]
        except Exception as error:
            raise SearchFailed(f"{collection}: {_in_short(error)}") from error

    def tend(self, collections: list[str]) -> bool:
        """Connects where needed, and loads those of the collections that are not (a restarted server has forgotten
        its load state). Returns whether searches can be answered; never raises."""
        try:
            client = self._connected()
            for collection in collections:
                state = client.get_load_state(collection, timeout=CONNECT_SECONDS)["state"]
                if state != LoadState.Loaded:
                    client.load_collection(collection, timeout=LOAD_SECONDS)
            if not collections:
                client.list_collections(timeout=CONNECT_SECONDS)
            error = ""
        except Exception as failure:
            error = _in_short(failure)
        if error and error != self._error:
            log.warning("the vector database does not answer: %s", error)
        self._error, self.answers = error, not error
        return self.answers

    def close(self) -> None:
        if self._client is not None:
            self._client.close()

    def _connected(self) -> MilvusClient:
        with self._connecting:
            if self._client is None:
                self._client = MilvusClient(**self._connection, timeout=CONNECT_SECONDS)
            return self._client


def _in_short(error: Exception) -> str:
    """gRPC's own text is five lines."""
    if isinstance(error, grpc.RpcError):
        return f"{error.code().name}: {error.details()}"
    return f"{type(error).__name__}: {error}"

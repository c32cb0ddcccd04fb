"""How many titles the vector database holds for a release."""

import time

from contracts.settings import Settings

ATTEMPTS = 3
"""Milvus Lite hangs up on connections that were idle while shelves were computed ("too many pings"): ask again."""


def indexed_titles(settings: Settings, collection: str) -> tuple[int | None, str]:
    """The count, or None and why it could not be had."""
    from pymilvus.exceptions import MilvusException

    why = ""
    for attempt in range(ATTEMPTS):
        time.sleep(attempt)
        try:
            return _count(settings, collection), ""
        except MilvusException as error:
            why = f"{collection} could not be counted: {error}"
    return None, why


def _count(settings: Settings, collection: str) -> int:
    from pymilvus import MilvusClient

    client = MilvusClient(settings.milvus_address(), token=settings.milvus_token, timeout=10)
    try:
        return int(client.query(collection, filter="", output_fields=["count(*)"])[0]["count(*)"])
    finally:
        client.close()

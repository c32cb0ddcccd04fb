"""How many titles the vector database holds for a release."""

from collections.abc import Iterable
from contextlib import closing

from contracts.settings import Settings


def indexed_titles(settings: Settings, collections: Iterable[str]) -> tuple[int | None, str]:
    """The count, the lowest of several collections; or None and why it could not be had."""
    from pymilvus import MilvusClient
    from pymilvus.exceptions import MilvusException

    try:
        with closing(MilvusClient(**settings.milvus_connection(), timeout=10)) as client:
            return min(int(client.query(name, filter="", output_fields=["count(*)"])[0]["count(*)"]) for name in collections), ""
    except MilvusException as error:
        return None, f"{', '.join(collections)} could not be counted: {error}"

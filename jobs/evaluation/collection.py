"""How many titles the vector database holds for a release."""

from contextlib import closing

from contracts.settings import Settings


def indexed_titles(settings: Settings, collection: str) -> tuple[int | None, str]:
    """The count, or None and why it could not be had."""
    from pymilvus import MilvusClient
    from pymilvus.exceptions import MilvusException

    try:
        with closing(MilvusClient(**settings.milvus_connection(), timeout=10)) as client:
            return int(client.query(collection, filter="", output_fields=["count(*)"])[0]["count(*)"]), ""
    except MilvusException as error:
        return None, f"{collection} could not be counted: {error}"

"""How many titles the vector database holds for a release."""

from contracts.settings import Settings


def indexed_titles(settings: Settings, collection: str) -> tuple[int | None, str]:
    """The count, or None and why it could not be had."""
    from pymilvus import MilvusClient
    from pymilvus.exceptions import MilvusException

    try:
        client = MilvusClient(settings.milvus_address(), token=settings.milvus_token, timeout=10)
        try:
            return int(client.query(collection, filter="", output_fields=["count(*)"])[0]["count(*)"]), ""
        finally:
            client.close()
    except MilvusException as error:
        return None, f"{collection} could not be counted: {error}"

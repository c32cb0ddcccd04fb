"""What batch jobs and serving ask the vector database the same way."""

from typing import Any


def count(client: Any, collection: str, timeout: float | None = None) -> int:
    """How many titles the collection holds, by a pymilvus client; raises what that raises."""
    return int(client.query(collection, filter="", output_fields=["count(*)"], timeout=timeout)[0]["count(*)"])

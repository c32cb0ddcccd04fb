"""What DAGs hand to each other."""

from airflow.sdk import Asset

CANDIDATE = Asset(name="candidate", uri="marquee://candidate")
"""A judged release that waits for its question; a partition is `<release_id>.<evaluation>`."""


def release_of(partition_key: str) -> str:
    """The release id in a partition key of CANDIDATE."""
    return partition_key.rpartition(".")[0]

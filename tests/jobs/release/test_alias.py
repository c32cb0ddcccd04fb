"""The alias for people and tools, on a real Milvus Lite server."""

import pytest
from pymilvus import DataType, MilvusClient

from contracts.errors import MarqueeError
from contracts.release import RankerSpec, ReleaseSpec, collection_name
from contracts.settings import Settings
from jobs.release import probe, seal


@pytest.fixture
def milvus(tmp_path, milvus_port) -> tuple[Settings, MilvusClient]:
    settings = Settings(_env_file=None, home=tmp_path, milvus_port=milvus_port)
    client = MilvusClient(**settings.milvus_connection())
    for release in ("alias-1", "alias-2"):
        schema = client.create_schema()
        schema.add_field("title_id", DataType.VARCHAR, is_primary=True, max_length=20)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=2)
        index = client.prepare_index_params()
        index.add_index("vector", index_type="FLAT", metric_type="IP")
        client.create_collection(collection_name(release), schema=schema, index_params=index)
        client.insert(collection_name(release), [{"title_id": "t1", "vector": [0.0, 1.0]}])
        client.load_collection(collection_name(release))
    yield settings, client
    if any(probe.ALIAS in client.list_aliases(name)["aliases"] for name in client.list_collections()):
        client.drop_alias(probe.ALIAS)
    for release in ("alias-1", "alias-2"):
        client.drop_collection(collection_name(release))


def test_the_alias_follows_the_live_release(milvus):
    settings, client = milvus
    for release in ("alias-1", "alias-2", "alias-2", "alias-1"):
        probe.move_alias(settings, release)
        assert client.describe_alias(probe.ALIAS)["collection_name"] == collection_name(release)


def test_a_collection_with_other_rows_is_refused(milvus):
    settings, _ = milvus
    spec = ReleaseSpec(release_id="alias-1", day="2026-03-31", dimension=2, history_length=1, collection=collection_name("alias-1"),
                       markets=["nl"], feature_service="", ranker=RankerSpec(kind="retrieval"))
    assert seal.collection_rows(settings, spec, 1) == 1
    with pytest.raises(MarqueeError, match="has 1 rows for 2 titles"):
        seal.collection_rows(settings, spec, 2)
    with pytest.raises(MarqueeError, match="has no collection"):
        seal.collection_rows(settings, spec.model_copy(update={"collection": "titles_nobody"}), 1)

"""The vector database goes away and comes back: searches fail fast, then work again without a restart of serving."""

import subprocess
import time
from contextlib import closing

import numpy as np
import pytest
from pymilvus import MilvusClient

from contracts.eligibility import search_filter
from contracts.settings import Settings
from local.services import milvus_command, wait_for_port
from serving.vectors import SearchFailed, Vectors
from tests.conftest import free_port
from tests.serving.tiny_world import DIMENSION, NOW, Catalogue, load_collection

BUDGET = 3.0


def test_a_search_fails_fast_while_the_database_is_away_and_works_when_it_is_back(tmp_path, monkeypatch):
    settings = Settings(_env_file=None, home=tmp_path, milvus_port=free_port())
    vectors, catalogue = Vectors(settings, BUDGET), Catalogue(30, 5)
    items = np.eye(30, DIMENSION, dtype=np.float32)

    def search() -> list[str]:
        return vectors.search("tiny", items[3], search_filter("de", 18, int(NOW.timestamp())), 5)

    def start() -> subprocess.Popen:
        process = subprocess.Popen(milvus_command(tmp_path / "milvus", settings.milvus_port),
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for_port(settings.milvus_port, seconds=90)
        return process

    assert not vectors.tend({"tiny": 30})
    with pytest.raises(SearchFailed, match="does not answer"):
        search()
    process = start()
    try:
        load_collection(settings, "tiny", catalogue, items)
        assert vectors.tend({"tiny": 30})
        found = search()
        assert found
        assert not vectors.tend({"lost": 30, "tiny": 30}), "a collection of another release"
        assert (vectors.can_search(["tiny"]), vectors.can_search(["lost"]), search()) == (True, False, found)
        with closing(MilvusClient(**settings.milvus_connection())) as client:
            lost = client.query("tiny", filter="", limit=1, output_fields=["*", "vector"])
            client.delete("tiny", ids=[lost[0]["title_id"]])
            monkeypatch.setattr("serving.vectors.COUNT_SECONDS", 0.0)
            assert not vectors.tend({"tiny": 30})
            with pytest.raises(SearchFailed):
                search()
            client.insert("tiny", lost)
            assert vectors.tend({"tiny": 30})
        found = search()  # ties may stand in another order
        process.terminate()
        process.wait(30)
        began = time.monotonic()
        with pytest.raises(SearchFailed):
            search()
        assert time.monotonic() - began < 2 * BUDGET
        assert not vectors.tend({"tiny": 30})
        began = time.monotonic()
        with pytest.raises(SearchFailed, match="does not answer"):
            search()
        assert time.monotonic() - began < 0.1
        process = start()
        deadline = time.monotonic() + 60
        while not vectors.tend({"tiny": 30}):  # loads the collection, which the new process has not
            assert time.monotonic() < deadline
            time.sleep(0.2)
        assert search() == found
    finally:
        vectors.close()
        process.terminate()
        process.wait(30)

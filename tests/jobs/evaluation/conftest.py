"""A home whose releases can be judged: the ranker's little lake, Milvus collections, a ledger with an eligibility log."""

import shutil
from pathlib import Path

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from onnx import TensorProto, helper, numpy_helper

from contracts import release as names
from contracts.content import CONTENT_WIDTH
from contracts.eligibility import FAR, Eligibility, Record
from contracts.query import ITEM_INPUTS, ITEM_OUTPUT
from contracts.release import Payload, Provenance, RankerSpec, ReleaseSpec, State, collection_name, file_entry
from jobs.evaluation.config import JudgeConfig
from jobs.index import collection
from ledger import Ledger, open_ledger
from tests.jobs.ranker.ranker_world import DAY, DIMENSION, LENGTH, RELEASE, SPLIT, World


class JudgeHome:
    """`build` makes a sealed release, `go_live` moves the pointer to it."""

    def __init__(self, home: Path, milvus_port: int):
        self.world = World(profiles=80)
        self.settings = self.world.write(home).model_copy(update={"milvus_port": milvus_port})
        self.settings.model_fields_set.add("milvus_port")
        self.ledger: Ledger = open_ledger(self.settings)
        self.log = list(self._log())
        self.ledger.append_eligibility(self.log)

    def build(self, release_id: str, ranker: RankerSpec, shuffled: bool = False) -> Path:
        """A copy of the world's release under another id; `shuffled`: its item vectors belong to other titles."""
        folder = self.settings.releases / release_id
        shutil.copytree(self.settings.releases / RELEASE, folder)
        provenance = Provenance.model_validate_json((folder / names.PROVENANCE).read_text())
        (folder / names.PROVENANCE).write_text(provenance.model_copy(update={"release_id": release_id}).model_dump_json())
        onnx.save(item_tower(self.world.vectors), folder / names.ITEM_TOWER)
        if shuffled:
            np.save(folder / names.ITEM_VECTORS, np.random.default_rng(1).permutation(self.world.vectors))
        pq.write_table(self._fallback(), folder / names.FALLBACK)
        spec = ReleaseSpec(release_id=release_id, day=str(DAY), dimension=DIMENSION, history_length=LENGTH,
                           collection=collection_name(release_id), markets=["de", "fr"], feature_service="ranking_v1",
                           ranker=ranker, counts_day=str(SPLIT.counts_day))
        (folder / names.SPEC).write_text(spec.model_dump_json())
        entries = {name: file_entry(folder / name) for name in names.PAYLOAD_FILES if (folder / name).exists()}
        payload = Payload(release_id=release_id, files=entries, payload_digest=names.payload_digest(entries))
        (folder / names.PAYLOAD).write_text(payload.model_dump_json())
        self._index(spec.collection, np.load(folder / names.ITEM_VECTORS))
        self.ledger.begin(release_id, str(DAY), "test")
        self.ledger.move(release_id, State.BUILT, "test")
        return folder

    def go_live(self, release_id: str) -> None:
        from datetime import UTC, datetime, timedelta
        pointer = self.ledger.pointer()
        self.ledger.move(release_id, State.AWAITING_APPROVAL, "test")
        pointer = self.ledger.propose(release_id, pointer.version if pointer else 0)
        pointer = self.ledger.switch(pointer.version, datetime.now(UTC) + timedelta(minutes=5))
        self.ledger.confirm(pointer.version)

    def _log(self):
        start = int(self.world.start.timestamp())
        for row in self.world.titles:
            yield Record(seq=0, kind="title", title_id=row["title_id"], maturity=row["maturity"])
        for row in self.world.licences:
            yield Record(seq=0, kind="licence", title_id=row["title_id"], window_id=row["window_id"], market=row["market"],
                         opens_at=start, closes_at=FAR)

    def _fallback(self) -> pa.Table:
        order = np.argsort(-self.world.popularity, kind="stable")
        rows = [(market, cohort, rank, self.world.ids[i], float(self.world.popularity[i])) for market in ("de", "fr")
                for cohort in ("general", "kids") for rank, i in enumerate(order, 1)]
        return pa.table(dict(zip(("market", "cohort", "rank", "title_id", "score"), zip(*rows))))

    def _index(self, name: str, vectors: np.ndarray) -> None:
        state = Eligibility()
        state.apply(self.ledger.eligibility_since(0))
        rows = collection.collection_rows(self.world.ids, vectors, state, int(SPLIT.ranker_end.timestamp()))
        client = collection.connect(self.settings)
        collection.load(client, name, rows, 1000)
        client.close()


def item_tower(vectors_TD: np.ndarray) -> onnx.ModelProto:
    """Says of each title the vector that its id embedding holds, whatever its content."""
    inputs = [helper.make_tensor_value_info(ITEM_INPUTS[0], TensorProto.FLOAT, ["N", CONTENT_WIDTH]),
              helper.make_tensor_value_info(ITEM_INPUTS[1], TensorProto.INT64, ["N"])]
    table = numpy_helper.from_array(np.vstack([np.zeros_like(vectors_TD[:1]), vectors_TD]), "table")
    look_up = helper.make_node("Gather", ["table", ITEM_INPUTS[1]], [ITEM_OUTPUT])
    output = helper.make_tensor_value_info(ITEM_OUTPUT, TensorProto.FLOAT, ["N", vectors_TD.shape[1]])
    graph = helper.make_graph([look_up], "item_tower", inputs, [output], [table])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


@pytest.fixture(scope="package")
def judge_home(tmp_path_factory, milvus_port) -> JudgeHome:
    return JudgeHome(tmp_path_factory.mktemp("judge"), milvus_port)


@pytest.fixture(scope="session")
def judge_config() -> JudgeConfig:
    return JudgeConfig(min_requests=20, min_slice_requests=10, bootstrap_samples=200, client_threads=2)

"""Both towers as ONNX, the same bytes on every rerun, checked against torch."""

import json
import logging
import warnings
from collections.abc import Mapping
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from torch import nn

from contracts import durable
from contracts.content import CONTENT_WIDTH, HASHED_WORDS, TextEncoder
from contracts.errors import MarqueeError
from contracts.query import (
    CONTEXT_WIDTH,
    EVENT_WIDTH,
    ID_TITLES,
    ITEM_INPUTS,
    ITEM_OUTPUT,
    ITEM_TOWER_OF,
    PROFILE_WIDTH,
    QUERY_INPUTS,
    QUERY_OUTPUT,
)
from contracts.release import ITEM_TOWER, QUERY_TOWER, file_entry
from jobs import text
from jobs.towers.config import TowersConfig
from jobs.towers.model import Towers

OPSET = 20
PARITY = 1e-5
"""Largest difference between torch and ONNX in any component of a unit vector (3e-7 is usual)."""

Rows = dict[str, np.ndarray]


def export(towers: Towers, id_titles: list[str], config: TowersConfig, folder: Path, encoder: TextEncoder = HASHED_WORDS) -> dict[str, float]:
    """Writes item_tower.onnx and query_tower.onnx into `folder` and returns the largest difference of each.

    The item tower carries its own vocabulary (metadata `id_titles`) and its text encoder, the query tower the item
    tower's hash: it reads vectors of no other. Raises MarqueeError where a difference exceeds PARITY; nothing is left
    under the final names then.
    """
    towers = towers.cpu().eval()
    item, query = (folder / f".{name}.new" for name in (ITEM_TOWER, QUERY_TOWER))
    examples_of_items = item_examples(len(id_titles), towers.item.content.in_features)
    examples_of_queries = query_examples(config)
    _write(towers.item, examples_of_items, ITEM_OUTPUT, {ID_TITLES: id_titles, **text.metadata_of(encoder)}, item)
    _write(towers.query, examples_of_queries, QUERY_OUTPUT, {ITEM_TOWER_OF: file_entry(item).sha256}, query)
    differences = {ITEM_TOWER: parity(towers.item, item, examples_of_items),
                   QUERY_TOWER: parity(towers.query, query, examples_of_queries)}
    durable.publish(item, folder / ITEM_TOWER)
    durable.publish(query, folder / QUERY_TOWER)
    return differences


def item_examples(id_titles: int, content_width: int = CONTENT_WIDTH) -> Rows:
    """Titles with an id, without one, and without any content."""
    random = np.random.default_rng(0)
    content = random.normal(0, 0.2, (4, content_width)).astype(np.float32)
    content[3] = 0.0
    return dict(zip(ITEM_INPUTS, (content, np.array([0, id_titles, min(1, id_titles), 0], np.int64))))


def query_examples(config: TowersConfig) -> Rows:
    """A full history, an empty one, one play, and half a history."""
    random = np.random.default_rng(0)
    lengths = np.array([config.history_length, 0, min(1, config.history_length), config.history_length // 2])
    mask = (np.arange(config.history_length) < lengths[:, None]).astype(np.float32)
    vectors = random.normal(size=(4, config.history_length, config.dimension))
    vectors /= np.linalg.norm(vectors, axis=-1, keepdims=True)
    features = random.random((4, config.history_length, EVENT_WIDTH))
    rows = (vectors * mask[..., None], features * mask[..., None], mask,
            random.random((4, PROFILE_WIDTH)), random.random((4, CONTEXT_WIDTH)))
    return {name: row.astype(np.float32) for name, row in zip(QUERY_INPUTS, rows)}


def parity(tower: nn.Module, path: Path, examples: Mapping[str, np.ndarray]) -> float:
    """The largest absolute difference between torch and the file, over the examples together and one by one."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    worst = 0.0
    with torch.no_grad():
        for rows in (slice(None), *(slice(i, i + 1) for i in range(len(next(iter(examples.values())))))):
            some = {name: array[rows] for name, array in examples.items()}
            expected = tower(*(torch.as_tensor(array) for array in some.values())).numpy()
            worst = max(worst, float(np.abs(session.run(None, some)[0] - expected).max()))
    if not worst <= PARITY:
        raise MarqueeError(f"{path.name.strip('.').removesuffix('.new')}: ONNX differs from torch by {worst:.1e}, more than {PARITY:.0e}")
    return worst


def _write(tower: nn.Module, examples: Rows, output: str, metadata: Mapping[str, object], path: Path) -> None:
    batch = torch.export.Dim("batch", min=1)
    arguments = tuple(torch.as_tensor(array) for array in examples.values())
    with warnings.catch_warnings(), redirect_stdout(StringIO()), _quiet("onnxscript", "torch.onnx", "onnx_ir"):
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            tower, arguments, dynamo=True, opset_version=OPSET, input_names=list(examples), output_names=[output],
            dynamic_shapes=tuple({0: batch} for _ in arguments), verbose=False,
        )
    model = strip(program.model_proto)
    for name, value in sorted(metadata.items()):
        model.metadata_props.add(key=name, value=json.dumps(value, ensure_ascii=False, separators=(",", ":")))
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString(deterministic=True))


def strip(model: onnx.ModelProto) -> onnx.ModelProto:
    """Without stack traces and notes: they hold paths of the machine and would change the bytes."""
    del model.metadata_props[:]
    model.doc_string = ""
    graph = model.graph
    graph.doc_string = ""
    del graph.metadata_props[:]
    for item in (*graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        item.doc_string = ""
        del item.metadata_props[:]
    for function in model.functions:
        function.doc_string = ""
        del function.metadata_props[:]
        for node in function.node:
            node.doc_string = ""
            del node.metadata_props[:]
    return model


class _quiet:
    """Raises the level of noisy loggers for a while."""

    def __init__(self, *names: str) -> None:
        self.loggers = [logging.getLogger(name) for name in names]

    def __enter__(self) -> None:
        self.levels = [logger.level for logger in self.loggers]
        for logger in self.loggers:
            logger.setLevel(logging.ERROR)

    def __exit__(self, *_: object) -> None:
        for logger, level in zip(self.loggers, self.levels):
            logger.setLevel(level)

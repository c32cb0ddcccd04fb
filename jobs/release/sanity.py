"""Do the files of a release agree? Each check reads the files as serving will.

Shape suffixes: T titles, D vector width.
"""

import logging
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from contracts.errors import MarqueeError
from contracts.features import RANKING_FEATURES
from contracts.marts import TITLE_FEATURES
from contracts.query import ITEM_INPUTS, ITEM_OUTPUT, QUERY_INPUTS, QUERY_OUTPUT
from contracts.release import (
    COWATCH,
    FALLBACK,
    ITEM_TOWER,
    ITEM_VECTORS,
    QUERY_TOWER,
    RANKER,
    TITLES,
    TRANSITIONS,
    ReleaseSpec,
)

log = logging.getLogger("marquee")

RANKER_KINDS = ("lambdamart", "blend", "retrieval")
TITLE_COLUMNS = ("title_id", "name", "genres", "maturity", "id_index", *TITLE_FEATURES)
NORM_TOLERANCE = 1e-3
END_OF_TREES = "end of trees"
"""LightGBM ends the process, instead of raising, where its model text ends before this line."""


def check(root: Path, spec: ReleaseSpec) -> int:
    """Returns the number of titles; MarqueeError names the file and what is wrong with it."""
    title_ids = _titles(root)
    _vectors(root, spec, len(title_ids))
    _tower(root / QUERY_TOWER, QUERY_INPUTS, QUERY_OUTPUT, spec.dimension)
    _tower(root / ITEM_TOWER, ITEM_INPUTS, ITEM_OUTPUT, spec.dimension)
    for neighbours in (TRANSITIONS, COWATCH):
        _references(root / neighbours, ("from_title", "to_title"), ("weight",), title_ids)
    _references(root / FALLBACK, ("title_id",), ("market", "cohort", "rank", "score"), title_ids)
    _markets(root, spec)
    _ranker(root, spec)
    return len(title_ids)


def _titles(root: Path) -> list[str]:
    table = _parquet(root / TITLES, TITLE_COLUMNS)
    title_ids = table["title_id"].to_pylist()
    if not title_ids:
        raise MarqueeError(f"{TITLES} has no rows")
    if any(a >= b for a, b in pairwise(title_ids)):
        raise MarqueeError(f"{TITLES} is not sorted by title_id, or repeats one")
    return title_ids


def _vectors(root: Path, spec: ReleaseSpec, titles: int) -> None:
    try:
        vectors_TD = np.load(root / ITEM_VECTORS, allow_pickle=False)
    except ValueError as error:
        raise MarqueeError(f"{ITEM_VECTORS} cannot be read: {error}") from None
    if vectors_TD.shape != (titles, spec.dimension) or vectors_TD.dtype != np.float32:
        raise MarqueeError(f"{ITEM_VECTORS} is {vectors_TD.dtype} {vectors_TD.shape}, not float32 {(titles, spec.dimension)}")
    norms_T = np.linalg.norm(vectors_TD, axis=1)
    if not np.all(np.abs(norms_T - 1) < NORM_TOLERANCE):  # NaN fails this too
        raise MarqueeError(f"{ITEM_VECTORS}: {int(np.sum(~(np.abs(norms_T - 1) < NORM_TOLERANCE)))} rows have not length 1")


def _tower(path: Path, inputs: Iterable[str], output: str, dimension: int) -> None:
    import onnxruntime

    try:
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises many kinds for a file that is no model
        raise MarqueeError(f"{path.name} is not a readable ONNX model: {str(error)[:200]}") from None
    names = {i.name for i in session.get_inputs()}
    if names != set(inputs):
        raise MarqueeError(f"{path.name} takes {sorted(names)}, not {sorted(inputs)}")
    shapes = {o.name: o.shape for o in session.get_outputs()}
    if output not in shapes or shapes[output][-1] != dimension:
        raise MarqueeError(f"{path.name} gives {shapes}, not {output} of width {dimension}")


def _references(path: Path, titles: Iterable[str], others: Iterable[str], known: list[str]) -> None:
    table = _parquet(path, (*titles, *others))
    known_titles = pa.array(known)
    for column in titles:
        inside = pa.compute.is_in(table[column], value_set=known_titles)
        if not pa.compute.all(inside, min_count=0).as_py():
            raise MarqueeError(f"{path.name}: {column} names titles that {TITLES} does not have")


def _markets(root: Path, spec: ReleaseSpec) -> None:
    """A market without an order is one where nothing was licensed; all markets without one is a fault."""
    if not spec.markets:
        raise MarqueeError("spec.json names no market")
    covered = set(pq.read_table(root / FALLBACK, columns=["market"])["market"].to_pylist())
    missing = sorted(set(spec.markets) - covered)
    if len(missing) == len(set(spec.markets)):
        raise MarqueeError(f"{FALLBACK} has no order for market {', '.join(missing)}")
    if missing:
        log.warning("%s has no order for market %s: nothing is licensed there", FALLBACK, ", ".join(missing))


def _ranker(root: Path, spec: ReleaseSpec) -> None:
    if spec.ranker.kind not in RANKER_KINDS:
        raise MarqueeError(f"spec.json: ranker kind {spec.ranker.kind!r}; there are {', '.join(RANKER_KINDS)}")
    if spec.ranker.kind != "lambdamart":
        return
    if tuple(spec.ranker.features) != RANKING_FEATURES:
        raise MarqueeError("spec.json: the ranker's features are not contracts.features.RANKING_FEATURES, in order")
    import lightgbm

    if END_OF_TREES not in (root / RANKER).read_text(errors="replace").splitlines():
        raise MarqueeError(f"{RANKER} is cut off: it has no line `{END_OF_TREES}`")
    try:
        names = lightgbm.Booster(model_file=str(root / RANKER)).feature_name()
    except lightgbm.basic.LightGBMError as error:
        raise MarqueeError(f"{RANKER} is not a readable LightGBM model: {error}") from None
    if tuple(names) != RANKING_FEATURES:
        raise MarqueeError(f"{RANKER} was trained with other features than contracts.features.RANKING_FEATURES, in order")


def _parquet(path: Path, columns: Iterable[str]) -> pa.Table:
    try:
        table = pq.read_table(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise MarqueeError(f"{path.name} is not a readable Parquet file: {str(error)[:200]}") from None
    if missing := [c for c in columns if c not in table.column_names]:
        raise MarqueeError(f"{path.name} lacks columns {', '.join(missing)}")
    return table

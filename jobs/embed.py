"""Titles to vectors by a release's own item tower: the whole catalogue when it is built (jobs/index), and what arrives
later (jobs/release/overlay.py)."""

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import onnxruntime

from contracts.content import Content, content_matrix, content_width
from contracts.errors import MarqueeError, UsageError
from contracts.query import ID_TITLES, ITEM_INPUTS, ITEM_OUTPUT
from jobs import text


class Embedder:
    """The item tower on the chosen device: CUDA where onnxruntime has it and the settings allow it. Raises UsageError
    where the text encoder that it was trained with is not to be had here."""

    def __init__(self, tower: Path, device: str = "auto", threads: int = 1) -> None:
        if not tower.is_file():
            raise UsageError(f"{tower} is not there: run `marquee towers --release {tower.parent.name}` first")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # cores are shared
        cuda = "CUDAExecutionProvider"
        has_cuda = cuda in onnxruntime.get_available_providers()
        if device == "cuda" and not has_cuda:
            raise UsageError("MARQUEE_DEVICE=cuda, but this onnxruntime has no CUDA provider; install onnxruntime-gpu or say auto")
        providers = [cuda] if has_cuda and device != "cpu" else []
        self.session = onnxruntime.InferenceSession(str(tower), options, providers=[*providers, "CPUExecutionProvider"])
        metadata = self.session.get_modelmeta().custom_metadata_map
        self.text = text.encoder_of(metadata)
        width = self.session.get_inputs()[0].shape[1]
        if width != content_width(self.text):
            raise MarqueeError(f"{tower} reads content of width {width}, this code makes {content_width(self.text)}: train the towers again")
        self.id_titles: list[str] = json.loads(metadata[ID_TITLES])

    def embed(
        self, contents: Sequence[Content], id_index: np.ndarray, batch: int,
        watch: Callable[[Iterable], Iterable] = lambda steps: steps,
    ) -> np.ndarray:
        """(N,D) float32. Raises MarqueeError where a vector is not finite or not of length 1."""
        if not len(contents):
            raise MarqueeError("there is no title to embed: the lake has no title version known by the night's end")
        parts = []
        for start in watch(range(0, len(contents), batch)):
            rows = slice(start, start + batch)
            inputs = dict(zip(ITEM_INPUTS, (content_matrix(contents[rows], self.text), id_index[rows].astype(np.int64))))
            parts.append(self.session.run([ITEM_OUTPUT], inputs)[0])
        vectors_ND = np.concatenate(parts)
        wrong = np.flatnonzero(~(np.abs(np.linalg.norm(vectors_ND, axis=1) - 1.0) < 1e-3))
        if len(wrong):
            raise MarqueeError(f"{len(wrong)} of {len(contents)} title vectors are not of length 1, first {contents[wrong[0]].title_id}")
        return vectors_ND

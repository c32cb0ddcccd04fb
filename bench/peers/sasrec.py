"""RecTools' SASRec (Kang & McAuley, 2018; softmax over the catalogue) at the size of the product's tower; validation
chooses the epoch. One training gives a candidate an epoch.

Shape suffixes: Q requests, L history length, T titles, D vector width.
"""

import copy
import logging
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from pytorch_lightning import seed_everything
from rectools import Columns
from rectools.dataset import Dataset as Interactions
from rectools.models import SASRecModel

from bench.peers.models import Answers, Candidate
from bench.retrieval.data import Dataset
from bench.retrieval.evaluate import Scores
from bench.retrieval.requests import Requests

SIZE = {"n_blocks": 2, "n_heads": 2, "n_factors": 64, "session_max_len": 200, "dropout_rate": 0.2, "loss": "softmax",
        "lr": 1e-3, "batch_size": 16}
"""Sessions a step: as many as a step of the product's towers has. With 64 an epoch costs the same and brings a fraction: on
MovieLens-1M validation NDCG@10 was .045 after three epochs."""
QUERIES_AT_ONCE = 256

for noisy in ("pytorch_lightning", "pytorch_lightning.utilities.rank_zero"):
    logging.getLogger(noisy).setLevel(logging.ERROR)
warnings.filterwarnings("ignore", module="pytorch_lightning|rectools|pydantic")


@dataclass(frozen=True)
class SASRec:
    """Has the methods of models.Peer; patience is in epochs without a better validation figure (bench/peers/one.py)."""

    epochs: int
    takes_order: bool = True

    def why_not(self, data: Dataset) -> str:
        return ""

    def candidates(self, data: Dataset, learns_E: np.ndarray, seed: int) -> Iterator[Candidate]:
        seed_everything(seed, verbose=False)
        model, rows = SASRecModel(**SIZE, epochs=1), _rows(data, learns_E)
        seconds = 0.0
        for epoch in range(1, self.epochs + 1):
            begin = time.process_time()
            model.fit_partial(rows, min_epochs=1, max_epochs=1)
            seconds += time.process_time() - begin
            yield Candidate({**SIZE, "epochs": epoch}, _answers(model), seconds)

    def again(self, data: Dataset, learns_E: np.ndarray, seed: int, setting: dict) -> Candidate:
        *_, last = SASRec(setting["epochs"]).candidates(data, learns_E, seed)
        return last


def _rows(data: Dataset, learns_E: np.ndarray) -> Interactions:
    """Rows in their order, which RecTools reads from a time."""
    place = np.flatnonzero(learns_E)
    return Interactions.construct(pd.DataFrame({
        Columns.User: data.profile[place], Columns.Item: data.title[place], Columns.Weight: 1.0,
        Columns.Datetime: pd.to_datetime(place, unit="s"),
    }))


def _answers(model: SASRecModel) -> Answers:
    """Of the weights as they are now."""
    torch_model = copy.deepcopy(model.torch_model).eval()
    known = model.data_preparator.get_known_item_ids().astype(np.int64)  # rows of the catalogue by RecTools' own number
    numbers = model.data_preparator.get_known_items_sorted_internal_ids()

    def answers(requests: Requests) -> Scores:
        number_T = np.zeros(requests.titles, np.int64)  # 0 pads
        number_T[known] = numbers
        query_QD, vectors_ND = _encoded(torch_model, _sessions(requests, number_T))

        def scores(rows: np.ndarray) -> np.ndarray:
            out_QT = np.full((len(rows), requests.titles), np.finfo(np.float32).min, np.float32)  # never seen: last
            out_QT[:, known] = query_QD[rows] @ vectors_ND[numbers].T
            out_QT[~query_QD[rows].any(1)] = 0.0
            return out_QT

        return scores

    return answers


def _sessions(requests: Requests, number_T: np.ndarray) -> np.ndarray:
    """(Q,L) the newest known titles of each history, padded on the left."""
    length = SIZE["session_max_len"]
    out_QL = np.zeros((len(requests), length), np.int64)
    for out_L, row in zip(out_QL, range(len(requests))):
        numbers = number_T[requests.title[requests.history(row)]]
        newest = numbers[numbers > 0][-length:]
        out_L[length - len(newest) :] = newest
    return out_QL


@torch.no_grad()
def _encoded(torch_model: torch.nn.Module, session_QL: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(Q,D) queries, zero for an empty session, and (N,D) vectors of RecTools' numbers."""
    vectors_ND = torch_model.item_model.get_all_embeddings()
    out = []
    for part_QL in np.array_split(session_QL, -(-len(session_QL) // QUERIES_AT_ONCE)):
        query_QD = torch_model.encode_sessions({"x": torch.as_tensor(part_QL)}, vectors_ND)[:, -1, :].numpy()
        out.append(np.where(part_QL.any(1)[:, None], query_QD, np.float32(0.0)))
    return np.concatenate(out), vectors_ND.numpy()

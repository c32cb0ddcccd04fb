"""The product's towers, and their blend with next-watch transitions.

Shape suffixes: E interactions, Q requests, T titles, D vector width.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from bench.retrieval.data import Dataset
from bench.retrieval.evaluate import Scores
from bench.retrieval.requests import Requests
from contracts.content import content_matrix
from contracts.query import DEVICES
from jobs import text
from jobs.runtime import progress_visible
from jobs.towers.config import TowersConfig
from jobs.towers.dataset import MICROSECONDS, Plays, ProfileVersions, Windows, context_rows
from jobs.towers.fit import Fitted, Trainer, TrainingData, choose_device


def plays_of(data: Dataset) -> Plays:
    """Every row as a play. Times ascend within a profile by at least a microsecond: what stands earlier was known."""
    rows = np.arange(len(data.profile))
    micros = pd.Series(np.round(data.seconds * MICROSECONDS).astype(np.int64) - rows)
    micros = (micros.groupby(data.profile).cummax() + rows).to_numpy()
    nan = np.full(len(rows), np.nan)
    return Plays(data.profile, data.title, micros, micros, nan, data.rating, np.ones(len(rows), bool),
                 np.full(len(rows), len(DEVICES)))


def train(data: Dataset, learns_E: np.ndarray, held_out_E: np.ndarray, config: TowersConfig, threads: int) -> tuple[Trainer, Fitted]:
    versions = ProfileVersions(np.arange(len(data.profile_ids)), np.full(len(data.profile_ids), np.iinfo(np.int64).min // 4),
                               np.concatenate([data.profile_PF, 0 * data.profile_PF[:1]]))
    prepared = TrainingData(data.title_ids, content(data, learns_E, config), plays_of(data), versions, learns_E, held_out_E)
    trainer = Trainer(prepared, config, choose_device("auto"), threads)
    return trainer, trainer.run(_watch)


def content(data: Dataset, learns_E: np.ndarray, config: TowersConfig) -> np.ndarray:
    """(T,F); a text encoder learns from titles that are played where the towers learn. One column of ones where nothing
    is known of titles."""
    if not data.has_content:
        return np.ones((len(data.title_ids), 1), np.float32)
    learnt = [data.contents[title].text for title in np.unique(data.title[learns_E])]
    return content_matrix(data.contents, text.fit(config.text_encoder, learnt))


def towers(data: Dataset, requests: Requests, trainer: Trainer) -> Scores:
    """Inner products of each request's query with every title."""
    vectors_AD = trainer.title_vectors()
    query_QD = trainer.closing_queries(closing_windows(data, requests, trainer.config.history_length), vectors_AD)
    vectors_TD = vectors_AD.cpu().numpy()
    return lambda rows: query_QD[rows] @ vectors_TD.T


def closing_windows(data: Dataset, requests: Requests, length: int) -> Windows:
    """One window a request: the newest plays of its history, asked at the time of its first relevant row."""
    seen = requests.length
    used = np.minimum(seen, length)
    asked = requests.first + seen
    time = np.round(data.seconds[asked] * MICROSECONDS).astype(np.int64)
    one = np.arange(len(seen) + 1)
    return Windows(requests.first + seen - used, used, data.profile[requests.first], one, used, data.title[asked],
                   context_rows(time if data.timed else 0 * time, np.full(len(seen), len(DEVICES))))


def blends(
    made: Mapping[str, Scores], weightings: Sequence[Mapping[str, float]], requests: Requests
) -> Callable[[np.ndarray], Iterator[np.ndarray]]:
    """For each weighting the (Q,T) sum of each system's weighted z over the titles that a request has not seen. A system
    is asked once for all of them."""
    used = {name for weights in weightings for name, weight in weights.items() if weight}

    def scores(rows: np.ndarray) -> Iterator[np.ndarray]:
        hidden_QT = np.zeros((len(rows), requests.titles), bool)
        seen = requests.seen(rows)
        hidden_QT[seen.request, seen.title] = True
        z_QT = {name: _z(made[name](rows), hidden_QT) for name in sorted(used)}
        for weights in weightings:
            yield sum(np.float32(weight) * z_QT[name] for name, weight in weights.items() if weight)

    return scores


def _z(scores_QT: np.ndarray, hidden_QT: np.ndarray) -> np.ndarray:
    open_QT = ~hidden_QT
    count = np.maximum(open_QT.sum(1, keepdims=True), 1)
    scores_QT = scores_QT - np.sum(scores_QT, 1, keepdims=True, where=open_QT) / count
    deviation = np.sqrt(np.sum(scores_QT * scores_QT, 1, keepdims=True, where=open_QT) / count)
    return scores_QT / np.maximum(deviation, 1e-9)


def refit(config: TowersConfig, chosen: Fitted) -> TowersConfig:
    """For training on validation rows too: as many epochs as validation chose."""
    return replace(config, epochs=chosen.best + 1)


def _watch(steps, what: str):
    if not progress_visible():
        return steps
    from rich.progress import track

    return track(list(steps), description=what, transient=True)



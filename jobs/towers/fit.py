"""The training loop: data in arrays -> trained towers and their curve. Equal seeds and threads give equal weights.

Shape suffixes as in model.py; T titles that train (those with an id embedding), A all titles of the catalogue.
"""

import math
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from contracts.errors import MarqueeError
from jobs.towers.config import TowersConfig
from jobs.towers.dataset import (
    Batch,
    Plays,
    ProfileVersions,
    Windows,
    build_windows,
    context_table,
    make_batch,
    plan_batches,
)
from jobs.towers.losses import full_softmax, sampled_softmax
from jobs.towers.model import Towers
from jobs.towers.progress import Checkpoint, Epoch, Progress
from jobs.towers.start import spectral

GRADIENT_NORM = 1.0

SCORES_AT_ONCE = 32_000_000
"""Scores of held-out labels against the catalogue that are held in memory together (128 MB)."""


@dataclass(frozen=True)
class TrainingData:
    """Plays that may be labels to learn from, and others that are held out for the early choice of an epoch. A play
    that is neither is only a part of histories."""

    title_ids: list[str]  # A, sorted
    content_AF: np.ndarray
    plays: Plays
    versions: ProfileVersions
    trains_E: np.ndarray  # bool
    held_out_E: np.ndarray  # bool

    @classmethod
    def until(
        cls, title_ids: list[str], content_AF: np.ndarray, plays: Plays, versions: ProfileVersions, holdout: int
    ) -> "TrainingData":
        """Learns before `holdout` (epoch microseconds), chooses from then on."""
        return cls(title_ids, content_AF, plays, versions, plays.time < holdout, plays.time >= holdout)

    def id_index(self, min_plays: int) -> np.ndarray:
        """(A,) int64: titles with enough plays to learn from count from 1, in title order; 0 for the others."""
        trained = self.plays.title[self.trains_E]
        counts = np.bincount(trained, minlength=len(self.title_ids))
        has_id = counts >= max(min_plays, 1)
        return np.where(has_id, np.cumsum(has_id), 0)


@dataclass(frozen=True)
class Fitted:
    towers: Towers
    id_titles: list[str]
    curve: list[Epoch]
    best: int  # epoch chosen, from 0
    labels: int
    validation_labels: int
    popularity_recall: float | None


def choose_device(wanted: str) -> torch.device:
    """`auto` takes CUDA where there is one."""
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(wanted)


def low_precision(config: TowersConfig, device: torch.device) -> bool:
    """Whether products are made in bfloat16 (mixed precision: weights, sums and exponentials stay float32)."""
    if config.precision == "auto":
        return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return config.precision == "bfloat16"


def make_deterministic(seed: int, threads: int) -> None:
    """Fixes what makes two runs differ: seeds, thread count, kernels."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.set_deterministic_debug_mode("error")  # use_deterministic_algorithms imports the compiler first: 5 s
    torch.utils.deterministic.fill_uninitialized_memory = False  # a debugging aid that costs 3 % of the time
    torch.set_num_threads(threads)
    torch.manual_seed(seed)


class Trainer:
    """Everything of one run on its device; `run` is the loop."""

    def __init__(self, data: TrainingData, config: TowersConfig, device: torch.device, threads: int) -> None:
        make_deterministic(config.seed, threads)
        self.data, self.config, self.device = data, config, device
        self.given = data.plays  # in the order that they came in
        id_index_A = data.id_index(config.min_plays_for_id)
        self.rows_T = np.flatnonzero(id_index_A)
        self.windows = self._windows(data.trains_E, id_index_A > 0)
        self.validation = self._thin(self._windows(data.held_out_E))
        if not self.windows.labels:
            raise MarqueeError(f"the towers have nothing to learn from: {len(data.plays)} plays, none of them a label")
        unusable = np.flatnonzero(~np.isfinite(data.content_AF).all(1))
        if len(unusable):
            raise MarqueeError(f"content features of {len(unusable)} titles are no numbers: {data.title_ids[unusable[0]]} first")
        self.id_index_A = torch.as_tensor(id_index_A, device=device)
        self.content_AF = torch.as_tensor(data.content_AF, device=device)
        features_EX = data.plays.features()
        self.features_EX = torch.as_tensor(features_EX if config.ordered else 0 * features_EX, device=device)
        self.profile_VP = torch.as_tensor(data.versions.features, device=device)
        self.context_RC = torch.as_tensor(context_table(), device=device)
        self.rows = torch.as_tensor(self.rows_T, device=device)
        self.trained_A = self.id_index_A - 1  # row among the trained titles; -1 for the others
        counts = np.bincount(id_index_A[self.windows.target] - 1, minlength=len(self.rows_T))
        self.frequency_T = torch.as_tensor(counts / counts.sum(), dtype=torch.float32, device=device)
        # a step of a sampled loss touches a few thousand ids: on a CPU moving all of them would take longer than all else
        self.sparse_ids = not config.uses_full_softmax(len(self.rows_T)) and device.type == "cpu"
        self.towers = Towers(config, len(self.rows_T), data.content_AF.shape[1], self.sparse_ids)
        if config.start == "spectral":
            self._start()
        self.towers.to(device)
        self.low_precision = low_precision(config, device)
        self.random = np.random.default_rng(config.seed)

    def _start(self) -> None:
        """Adds to the drawn ids what the plays that they learn from say of them."""
        title_N = self.windows.target
        label_W = np.diff(self.windows.label_start)
        profile_N = np.repeat(self.data.plays.profile[self.windows.start], label_W)
        start_TD = spectral(profile_N, self.trained_A.cpu().numpy()[title_N], len(self.rows_T), self.config.dimension, self.config.seed)
        with torch.no_grad():
            self.towers.item.id.weight[1:] += torch.as_tensor(start_TD)

    def _windows(self, span: np.ndarray, is_trained_A: np.ndarray | None = None) -> Windows:
        plays = self.data.plays
        label = plays.engaged & span
        if is_trained_A is not None:
            label &= is_trained_A[plays.title]
        return build_windows(plays, self.data.versions, label, self.config.history_length, self.config.windows_per_profile)

    def _thin(self, windows: Windows) -> Windows:
        """A fixed sample of whole windows, until it has about `validation_labels`."""
        counts = np.diff(windows.label_start)
        order = np.random.default_rng(self.config.seed).permutation(len(windows))
        keep = np.sort(order[: np.searchsorted(np.cumsum(counts[order]), self.config.validation_labels) + 1])
        labels = np.flatnonzero(np.isin(np.repeat(np.arange(len(windows)), counts), keep))
        return Windows(windows.start[keep], windows.length[keep], windows.profile_row[keep],
                       np.append(0, np.cumsum(counts[keep])), windows.position[labels], windows.target[labels],
                       windows.context_row[labels])

    def run(
        self, watch: Callable[[Iterable, str], Iterable] = lambda steps, _: steps, checkpoint: Checkpoint | None = None
    ) -> Fitted:
        """Trains for the configured epochs, or until `patience` of them brought nothing better, and keeps the one with the best
        recall on the holdout (the last, without). From a checkpoint it goes on, to the weights that come without a break."""
        dense, optimisers = self._optimisers()
        so_far = self._resumed(checkpoint, optimisers)
        while not so_far.over(self.config):
            loss = self._epoch(so_far, dense, optimisers, watch)
            so_far.add(Epoch(loss, self.recall()), self.towers)
            if checkpoint:
                checkpoint.save({**so_far.plain(), "weights": self.towers.state_dict(), "moments": [o.state_dict() for o in optimisers]})
        if so_far.best_weights is not None:
            self.towers.load_state_dict(so_far.best_weights)
        return Fitted(self.towers.eval(), [self.data.title_ids[row] for row in self.rows_T], so_far.curve, so_far.best,
                      self.windows.labels, self.validation.labels, self.popularity_recall())

    def _resumed(self, checkpoint: Checkpoint | None, optimisers: list[torch.optim.Optimizer]) -> Progress:
        state = checkpoint.load() if checkpoint else None
        if state is None:
            return Progress()
        self.towers.load_state_dict(state["weights"])
        for optimiser, moments in zip(optimisers, state["moments"], strict=True):
            optimiser.load_state_dict(moments)
        return Progress.of(state)

    def _epoch(
        self, so_far: Progress, dense: list[Tensor], optimisers: list[torch.optim.Optimizer], watch: Callable[[Iterable, str], Iterable]
    ) -> float:
        """Mean loss of one pass over the labels. What is drawn in it depends on its number alone."""
        number = len(so_far.curve)
        self.random = np.random.default_rng((self.config.seed, number))
        torch.manual_seed(int(self.random.integers(2**63)))
        if not self.config.ordered:
            self._draw_an_order()
        plan = plan_batches(self.windows, self.config.tokens_per_batch, self.random)
        so_far.planned = so_far.planned or max(self.config.epochs * len(plan), 1)
        warm_up = min(self.config.warm_up_steps, max(so_far.planned // 10, 1))
        losses = []
        for chosen in watch(plan, f"epoch {number + 1}/{self.config.epochs}"):
            with self._mixed():
                loss = self.loss(make_batch(self.data.plays, self.windows, chosen))
            self.towers.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(dense, GRADIENT_NORM)
            for optimiser in optimisers:
                for group in optimiser.param_groups:
                    group["lr"] = self.config.learning_rate * _rate(so_far.steps, warm_up, so_far.planned)
                optimiser.step()
            so_far.steps += 1
            losses.append(loss.detach())
        mean = float(torch.stack(losses).mean())
        if not math.isfinite(mean):
            raise MarqueeError(f"the towers' loss is no number in epoch {number + 1}: learning rate {self.config.learning_rate}")
        return mean

    def _optimisers(self) -> tuple[list[Tensor], list[torch.optim.Optimizer]]:
        """The parameters with dense gradients, and what moves them and the sparse ones (the moments of an id stand still
        where it is not used, and it does not decay)."""
        sparse = [self.towers.item.id.weight] if self.sparse_ids else []
        dense = [p for p in self.towers.parameters() if not any(p is other for other in sparse)]
        options = {"lr": self.config.learning_rate, "betas": (0.9, 0.98)}
        adam = torch.optim.AdamW(dense, weight_decay=self.config.weight_decay, fused=True, **options)
        return dense, [adam, *([torch.optim.SparseAdam(sparse, **options)] if sparse else [])]

    def _draw_an_order(self) -> None:
        """Each profile's plays to learn from change places, so that every label is predicted from another part of them."""
        plays, mine = self.given, np.flatnonzero(self.data.trains_E)
        order = np.lexsort((self.random.random(len(mine)), plays.profile[mine]))
        title = plays.title.copy()
        title[mine] = plays.title[mine[order]]
        self.data = replace(self.data, plays=replace(plays, title=title))
        self.windows = self._windows(self.data.trains_E)

    def loss(self, batch: Batch) -> Tensor:
        """The batch's loss; a part of the titles goes without its id, each time another."""
        self.towers.train()
        target_N = self.trained_A[self._on_device(batch.target_N)]
        history_BL = self._on_device(batch.title_BL)
        history_BL = torch.where(history_BL >= 0, self.trained_A[history_BL], -1)
        if self.config.uses_full_softmax(len(self.rows_T)):
            vectors_TD = self._item_vectors(torch.arange(len(self.rows_T), device=self.device))
            query_ND = self._queries(batch, history_BL, vectors_TD)
            return full_softmax(query_ND, vectors_TD, target_N, self.config.temperature)
        label_I = self._on_device(self.random.permutation(len(target_N))[: self.config.in_batch_negatives or None])
        negative_U = self._on_device(self.random.integers(len(self.rows_T), size=self.config.uniform_negatives))
        needed, place = torch.unique(torch.cat([target_N, negative_U, history_BL[history_BL >= 0]]), return_inverse=True)
        vectors_RD = self._item_vectors(needed)
        own_N, uniform_U, past = place.split([len(target_N), len(negative_U), len(place) - len(target_N) - len(negative_U)])
        local_BL = history_BL.clone()
        local_BL[history_BL >= 0] = past
        query_ND = self._queries(batch, local_BL, vectors_RD)
        column_M = torch.cat([own_N[label_I], uniform_U])
        return sampled_softmax(query_ND, F.embedding(own_N, vectors_RD), target_N, F.embedding(column_M, vectors_RD), needed[column_M],
                               len(label_I), self.frequency_T, self.config.temperature)

    def _item_vectors(self, trained: Tensor) -> Tensor:
        """(N,D) training vectors of trained titles, some of them from content alone."""
        masked = torch.as_tensor(self.random.random(len(trained)) < self.config.id_masking, device=self.device)
        return self.towers.item(self.content_AF[self.rows[trained]], torch.where(masked, 0, trained + 1))

    def _queries(self, batch: Batch, row_BL: Tensor, vectors_TD: Tensor) -> Tensor:
        """(N,D) one query a label; `row_BL` are rows of `vectors_TD`, -1 for padding."""
        valid_BL1 = (row_BL >= 0)[..., None]
        vectors_BLD = F.embedding(row_BL.clamp(min=0), vectors_TD) * valid_BL1
        features_BLE = self.features_EX[self._on_device(batch.event_BL)] * valid_BL1
        state_BSD = self.towers.query.states(vectors_BLD, features_BLE,
                                             self.profile_VP[self._on_device(batch.profile_row_B)])
        place_N = self._on_device(batch.label_row_N * state_BSD.shape[1] + batch.position_N)
        state_ND = F.embedding(place_N, state_BSD.flatten(0, 1))
        return self.towers.query.query(state_ND, self.context_RC[self._on_device(batch.context_row_N)])

    def _mixed(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.low_precision)

    @torch.no_grad()
    def recall(self) -> float | None:
        """Recall@K of the held-out labels among the whole catalogue, new titles by their content."""
        if not self.validation.labels:
            return None
        vectors_AD = self.title_vectors()
        rows = max(SCORES_AT_ONCE // len(vectors_AD), 1)
        hits = 0
        for chosen in plan_batches(self.validation, self.config.tokens_per_batch):
            batch = make_batch(self.data.plays, self.validation, chosen)
            with self._mixed():
                query_ND = self._queries(batch, self._on_device(batch.title_BL), vectors_AD)
            target_N = self._on_device(batch.target_N)
            for query, target in zip(query_ND.split(rows), target_N.split(rows), strict=True):
                score_NA = query @ vectors_AD.T
                rank_N = (score_NA > score_NA.gather(1, target[:, None])).sum(1)
                hits += int((rank_N < self.config.recall_at).sum())
        return hits / self.validation.labels

    @torch.no_grad()
    def title_vectors(self) -> Tensor:
        """(A,D) of the whole catalogue, new titles by their content."""
        self.towers.eval()
        return self.towers.item(self.content_AF, self.id_index_A)

    @torch.no_grad()
    def closing_queries(self, windows: Windows, vectors_AD: Tensor) -> np.ndarray:
        """(W,D) one query for each of windows with one label each, in their order."""
        self.towers.eval()
        out_WD = np.empty((len(windows), vectors_AD.shape[1]), np.float32)
        for chosen in plan_batches(windows, self.config.tokens_per_batch):
            batch = make_batch(self.data.plays, windows, chosen)
            out_WD[chosen] = self._queries(batch, self._on_device(batch.title_BL), vectors_AD).cpu().numpy()
        return out_WD

    def popularity_recall(self) -> float | None:
        """What the K most played titles would have found: the least that learning must beat."""
        if not self.validation.labels:
            return None
        counts = np.bincount(self.windows.target, minlength=len(self.data.title_ids))
        top = np.argsort(-counts, kind="stable")[: self.config.recall_at]
        return float(np.isin(self.validation.target, top).mean())

    def _on_device(self, array: np.ndarray) -> Tensor:
        return torch.as_tensor(array, device=self.device)


def _rate(step: int, warm_up: int, total: int) -> float:
    """Linear warm-up, then a cosine to zero."""
    if step < warm_up:
        return (step + 1) / warm_up
    return 0.5 * (1.0 + math.cos(math.pi * min((step - warm_up) / max(total - warm_up, 1), 1.0)))

"""The towers.

Item tower: linear(content) + id embedding, L2-normalised. Query tower: pre-LN causal blocks (Xiong et al., 2020) over the
item vectors of recent plays, led by a position made of the profile; the context joins at the end, so that one pass over
a history answers requests after each of its plays. A block mixes positions by attention (`transformer`) or by averages
that decay with recency (`pooled`, cheaper); all else is the same (MetaFormer, Yu et al., 2022).

Shape suffixes: B windows, L plays, S = L + 1 positions, D vector width, H heads, W = D / H, E event features, P profile,
C context, F content, N titles or labels.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from contracts.content import CONTENT_WIDTH
from contracts.query import CONTEXT_WIDTH, EVENT_WIDTH, PROFILE_WIDTH
from jobs.towers.config import TowersConfig


class ItemTower(nn.Module):
    """(N,F) content, (N,) id index (0: none) -> (N,D), L2 norm 1."""

    def __init__(
        self, config: TowersConfig, titles: int, content_width: int = CONTENT_WIDTH, sparse_ids: bool = False
    ) -> None:
        super().__init__()
        self.content = nn.Linear(content_width, config.dimension)
        self.id = nn.Embedding(titles + 1, config.dimension, padding_idx=0, sparse=sparse_ids)
        nn.init.normal_(self.content.weight, std=0.02)
        nn.init.zeros_(self.content.bias)
        nn.init.normal_(self.id.weight, std=0.02)
        with torch.no_grad():
            self.id.weight[0].zero_()

    def forward(self, content_NF: Tensor, id_index_N: Tensor) -> Tensor:
        return F.normalize(self.content(content_NF) + self.id(id_index_N), dim=-1)


class Dropout(nn.Module):
    """Dropout with a chance in 256ths, a drawn byte an element. On a CPU torch's own draws number after number on one
    thread, which took a tenth of the training time (a sixth on two threads)."""

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.hidden = round(256 * probability)

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or not self.hidden:
            return x
        drawn = torch.empty(-(-x.numel() // 8), dtype=torch.int64, device=x.device).random_(-(2**63), None)
        keep = drawn.view(torch.uint8)[: x.numel()].view(x.shape) >= self.hidden
        return x * keep * (256 / (256 - self.hidden))


class Attention(nn.Module):
    """Written out, since fused kernels differ between devices and some are not deterministic. No dropout on the
    attention itself: drawing it cost a fifth of the training time."""

    def __init__(self, config: TowersConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.qkv = nn.Linear(config.dimension, 3 * config.dimension)
        self.out = nn.Linear(config.dimension, config.dimension)

    def forward(self, x_BSD: Tensor, hidden_SS: Tensor) -> Tensor:
        width = x_BSD.shape[-1] // self.heads
        parts = self.qkv(x_BSD).unflatten(-1, (3, self.heads, width)).permute(2, 0, 3, 1, 4)
        query_BHSW, key_BHSW, value_BHSW = (part.contiguous() for part in parts.unbind())  # products go faster
        score_BHSS = (query_BHSW * width**-0.5) @ key_BHSW.transpose(-1, -2) + hidden_SS.to(query_BHSW.dtype)
        mixed_BHSW = score_BHSS.softmax(-1) @ value_BHSW
        return self.out(mixed_BHSW.transpose(1, 2).flatten(2))


class Pooling(nn.Module):
    """Each head averages what came before with weights 2^(-age / half-life), age in plays and the half-life learnt; in a
    set nothing is older and the weights are equal. They are the same for every window, so that one product pools all."""

    def __init__(self, config: TowersConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.value = nn.Linear(config.dimension, config.dimension)
        self.out = nn.Linear(config.dimension, config.dimension)
        longest = max(config.history_length / 4, 1.0)
        log_half_life_H = torch.linspace(math.log(0.5), math.log(longest), config.heads)
        self.log_half_life = nn.Parameter(log_half_life_H) if config.ordered else None

    def forward(self, x_BSD: Tensor, hidden_SS: Tensor) -> Tensor:
        width = x_BSD.shape[-1] // self.heads
        value_HSBW = self.value(x_BSD).unflatten(-1, (self.heads, width)).permute(2, 1, 0, 3)
        mixed_HSX = self.weights(hidden_SS) @ value_HSBW.flatten(2)
        mixed_HSBW = mixed_HSX.unflatten(-1, (-1, width))  # not the batch's size: ONNX would hold it fast
        return self.out(mixed_HSBW.permute(2, 1, 0, 3).flatten(2))

    def weights(self, hidden_SS: Tensor) -> Tensor:
        """(H,S,S), rows sum to 1."""
        if self.log_half_life is None:
            return hidden_SS.softmax(-1).expand(self.heads, -1, -1)
        step_S = torch.arange(len(hidden_SS), device=hidden_SS.device, dtype=hidden_SS.dtype)
        age_SS = step_S[:, None] - step_S
        rate_H = math.log(2.0) * torch.exp(-self.log_half_life)
        return (hidden_SS - rate_H[:, None, None] * age_SS).softmax(-1)


MIXERS = {"transformer": Attention, "pooled": Pooling}


class Block(nn.Module):
    """Mixing of positions and feed-forward, each on a normalised residual."""

    def __init__(self, config: TowersConfig) -> None:
        super().__init__()
        self.norm_mix = nn.LayerNorm(config.dimension)
        self.mix = MIXERS[config.query](config)
        self.norm_feed = nn.LayerNorm(config.dimension)
        self.feed = nn.Sequential(
            nn.Linear(config.dimension, config.feed_forward), nn.GELU(), Dropout(config.dropout),
            nn.Linear(config.feed_forward, config.dimension),
        )
        self.dropout = Dropout(config.dropout)

    def forward(self, x_BSD: Tensor, hidden_SS: Tensor) -> Tensor:
        x_BSD = x_BSD + self.dropout(self.mix(self.norm_mix(x_BSD), hidden_SS))
        return x_BSD + self.dropout(self.feed(self.norm_feed(x_BSD)))


class QueryTower(nn.Module):
    """History, profile and context -> query vector in the titles' space."""

    def __init__(self, config: TowersConfig) -> None:
        super().__init__()
        d = config.dimension
        self.scale = d**0.5  # a unit vector's components are small beside the other inputs
        self.title = nn.Linear(d, d, bias=False)
        self.event = nn.Linear(EVENT_WIDTH, d)
        self.profile = nn.Linear(PROFILE_WIDTH, d)
        position_SD = torch.randn(config.history_length + 1, d) * 0.02
        placed = config.ordered and config.query == "transformer"  # the pools know ages themselves
        self.position = nn.Parameter(position_SD if placed else 0 * position_SD, requires_grad=placed)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(d)
        self.context = nn.Linear(CONTEXT_WIDTH, d, bias=False)
        self.out = nn.Linear(d, d)
        self.dropout = Dropout(config.dropout)

    def states(self, vectors_BLD: Tensor, features_BLE: Tensor, profile_BP: Tensor) -> Tensor:
        """(B,S,D): the state after 0, 1, … L plays. Causal, so padding on the right changes nothing before it."""
        about_BD = self.profile(profile_BP)
        plays_BLD = self.title(vectors_BLD * self.scale) + self.event(features_BLE) + about_BD[:, None]
        x_BSD = torch.cat([about_BD[:, None], plays_BLD], dim=1)
        steps = x_BSD.shape[1]
        x_BSD = self.dropout(x_BSD + self.position[:steps])
        hidden_SS = torch.full((steps, steps), float("-inf"), device=x_BSD.device).triu(1)
        for block in self.blocks:
            x_BSD = block(x_BSD, hidden_SS)
        return self.norm(x_BSD)

    def query(self, state_ND: Tensor, context_NC: Tensor) -> Tensor:
        """(N,D), L2 norm 1."""
        return F.normalize(self.out(state_ND + self.context(context_NC)).float(), dim=-1)

    def forward(
        self, history_vectors: Tensor, history_features: Tensor, history_mask: Tensor, profile: Tensor, context: Tensor
    ) -> Tensor:
        """One query a row, after its last valid play; what ONNX exports. Inputs as contracts.query.QUERY_INPUTS."""
        state_BSD = self.states(history_vectors, history_features, profile)
        step_S = torch.arange(state_BSD.shape[1], device=state_BSD.device)
        chosen_BS = (step_S == history_mask.sum(1, keepdim=True)).to(state_BSD.dtype)
        return self.query((chosen_BS[:, None] @ state_BSD).squeeze(1), context)


class Towers(nn.Module):
    """Both towers; `titles` have an id embedding."""

    def __init__(
        self, config: TowersConfig, titles: int, content_width: int = CONTENT_WIDTH, sparse_ids: bool = False
    ) -> None:
        super().__init__()
        self.item = ItemTower(config, titles, content_width, sparse_ids)
        self.query = QueryTower(config)

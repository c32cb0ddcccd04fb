"""Full softmax against torch's own; sampled softmax against the full one."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from jobs.towers import losses
from jobs.towers.config import LOWEST_TEMPERATURE
from jobs.towers.losses import corrected_softmax, full_softmax, sampled_softmax


def vectors(rows: int, seed: int, width: int = 8) -> torch.Tensor:
    return F.normalize(torch.randn(rows, width, generator=torch.Generator().manual_seed(seed)), dim=1).requires_grad_()


@pytest.mark.parametrize("chunk", [7, 50, 10_000])
def test_chunks_change_neither_loss_nor_gradients(monkeypatch, chunk):
    monkeypatch.setitem(losses.CHUNK_ELEMENTS, "cpu", chunk)
    query, titles, target = vectors(13, 1), vectors(20, 2), torch.arange(13)
    ours = full_softmax(query, titles, target, 0.1)
    theirs = F.cross_entropy(query @ titles.T / 0.1, target)
    assert torch.allclose(ours, theirs, atol=1e-5)
    for a, b in zip(torch.autograd.grad(2 * ours, (query, titles)), torch.autograd.grad(2 * theirs, (query, titles))):
        assert torch.allclose(a, b, atol=1e-5)


def test_the_lowest_temperature_is_a_loss_like_another():
    """Also of a title beside its query, and of all titles opposite to it."""
    query, temperature = vectors(2, 1), LOWEST_TEMPERATURE
    titles = torch.cat([query.detach()[:1], -query.detach()[:1].expand(30, -1)]).requires_grad_()
    for target in (torch.tensor([0, 1]), torch.tensor([1, 0])):
        ours, theirs = full_softmax(query, titles, target, temperature), F.cross_entropy(query @ titles.T / temperature, target)
        assert torch.allclose(ours, theirs, atol=1e-4)
        for a, b in zip(torch.autograd.grad(ours, (query, titles)), torch.autograd.grad(theirs, (query, titles))):
            assert torch.allclose(a, b, atol=1e-3)


def skewed(titles: int) -> torch.Tensor:
    share = 1.0 / torch.arange(1, titles + 1)
    return share / share.sum()


@torch.no_grad()
def test_log_q_makes_the_sampled_partition_unbiased():
    """Over many draws the estimated denominator averages to the full one; without the correction it does not."""
    titles, batch, uniform, draws = 30, 12, 8, 3000
    random = np.random.default_rng(0)
    frequency = skewed(titles)
    title, query = vectors(titles, 3), vectors(1, 4)
    score = (query @ title.T / 0.5)[0]
    target = torch.tensor([5])
    full = score.exp().sum()
    expected = (batch - 1) * frequency + uniform / titles
    corrected, naive = [], []
    for _ in range(draws):
        others = torch.as_tensor(random.choice(titles, batch - 1, p=frequency.double().numpy() / frequency.double().sum().item()))
        column = torch.cat([others, torch.as_tensor(random.integers(titles, size=uniform))])
        for out, weight in ((corrected, expected[column]), (naive, torch.ones(len(column)))):
            out.append((corrected_softmax(query, title[target], target, title[column], column, weight, 0.5) + score[target]).exp())
    error = torch.cat(corrected).std() / draws**0.5
    assert abs(torch.cat(corrected).mean() - full) < 4 * error
    assert abs(torch.cat(naive).mean() - full) > 20 * error


@pytest.mark.parametrize("chunk", [9, 10_000])
def test_the_corrected_softmax_is_what_its_formula_says(monkeypatch, chunk):
    monkeypatch.setitem(losses.CHUNK_ELEMENTS, "cpu", chunk)
    own_title, title = torch.tensor([3, 1, 3, 0]), torch.tensor([3, 1, 0, 1, 2])  # what repeats a row's own title is left out
    query, own, column, expected = vectors(4, 1), vectors(4, 3), vectors(5, 2), torch.rand(5, generator=torch.Generator().manual_seed(0)) + 0.1
    positive = (query * own).sum(1, keepdim=True) / 0.1
    logits = (query @ column.T / 0.1 - expected.log()).masked_fill(title[None] == own_title[:, None], float("-inf"))
    theirs = F.cross_entropy(torch.cat([positive, logits], 1), torch.zeros(4, dtype=torch.long))
    ours = corrected_softmax(query, own, own_title, column, title, expected, 0.1)
    assert torch.allclose(ours, theirs, atol=1e-5)
    for a, b in zip(torch.autograd.grad(2 * ours, (query, own, column)), torch.autograd.grad(2 * theirs, (query, own, column))):
        assert torch.allclose(a, b, atol=1e-5)


@pytest.mark.parametrize("in_batch", [64, 256])
def test_sampling_learns_what_the_full_softmax_learns(in_batch):
    """Descending the sampled loss on a tiny, skewed catalogue ends where the full softmax ends."""
    titles, labels = 12, 256
    random = np.random.default_rng(1)
    frequency = skewed(titles)
    target = torch.as_tensor(random.choice(titles, labels, p=frequency.double().numpy() / frequency.double().sum().item()))
    frequency = torch.bincount(target, minlength=titles) / labels
    fixed = vectors(titles, 5, 16).detach()
    ends = {}
    for name in ("full", "sampled"):
        query = vectors(1, 6, 16).detach().requires_grad_()
        optimiser = torch.optim.Adam([query], lr=0.05)
        for _ in range(300):
            unit = F.normalize(query, dim=1).expand(labels, -1)
            if name == "full":
                loss = full_softmax(unit, fixed, target, 0.3)
            else:
                negative = torch.as_tensor(random.integers(titles, size=64))
                column = torch.cat([target[torch.as_tensor(random.permutation(labels)[:in_batch])], negative])
                loss = sampled_softmax(unit, fixed[target], target, fixed[column], column, in_batch, frequency, 0.3)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        ends[name] = F.normalize(query, dim=1).detach()
    assert float((ends["full"] * ends["sampled"]).sum()) > 0.99

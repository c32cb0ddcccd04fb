"""The towers: causal, blind to padding, at home with titles that they have never seen."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from contracts.content import CONTENT_WIDTH, Content, content_features
from contracts.query import CONTEXT_WIDTH, EVENT_WIDTH, PROFILE_WIDTH
from jobs.towers.export import query_examples
from jobs.towers.model import Dropout, Pooling, Towers
from tests.jobs.towers.conftest import SMALL


def towers(query: str = "transformer") -> Towers:
    torch.manual_seed(1)
    made = Towers(replace(SMALL, query=query), 10).eval()
    with torch.no_grad():  # away from the small start values, so that every input matters
        for parameter in made.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
        made.item.id.weight[0].zero_()
    return made


both = pytest.mark.parametrize("query", ["transformer", "pooled"])


def some(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(len(shape)))


@both
@torch.no_grad()
def test_a_later_play_changes_nothing_before_it(query):
    made = towers(query).query
    vectors, features, profile = some(1, 6, SMALL.dimension), some(1, 6, EVENT_WIDTH), some(1, PROFILE_WIDTH)
    before = made.states(vectors, features, profile)
    vectors[:, 4], features[:, 4] = 9.0, 9.0
    after = made.states(vectors, features, profile)
    assert torch.equal(before[:, :5], after[:, :5])
    assert not torch.allclose(before[:, 5:], after[:, 5:])


@both
@torch.no_grad()
def test_the_newest_of_a_padded_history_is_the_state_after_it(query):
    made = towers(query).query
    rows = {name: torch.as_tensor(array) for name, array in query_examples(SMALL).items()}
    queries = made(*rows.values())
    assert torch.allclose(queries.norm(dim=1), torch.ones(4), atol=1e-5)
    for i, length in enumerate(rows["history_mask"].sum(1).int().tolist()):
        states = made.states(rows["history_vectors"][i : i + 1, :length], rows["history_features"][i : i + 1, :length], rows["profile"][i : i + 1])
        alone = made.query(states[:, -1], rows["context"][i : i + 1])
        assert torch.allclose(alone[0], queries[i], atol=1e-6)


@both
@torch.no_grad()
def test_what_stands_in_the_padding_does_not_matter(query):
    made = towers(query).query
    rows = {name: torch.as_tensor(array) for name, array in query_examples(SMALL).items()}
    before = made(*rows.values())
    padding = rows["history_mask"] == 0
    rows["history_vectors"][padding], rows["history_features"][padding] = 7.0, 7.0
    assert torch.equal(before, made(*rows.values()))


@both
@torch.no_grad()
def test_an_empty_history_still_tells_profiles_and_contexts_apart(query):
    made = towers(query).query
    empty = torch.zeros(1, SMALL.history_length, SMALL.dimension), torch.zeros(1, SMALL.history_length, EVENT_WIDTH), torch.zeros(1, SMALL.history_length)
    nobody = torch.zeros(1, PROFILE_WIDTH), torch.zeros(1, CONTEXT_WIDTH)
    first = made(*empty, *nobody)
    assert torch.isfinite(first).all()
    assert not torch.allclose(first, made(*empty, nobody[0] + 1, nobody[1]))
    assert not torch.allclose(first, made(*empty, nobody[0], nobody[1] + 1))


@torch.no_grad()
def test_a_title_that_nobody_has_watched_gets_a_vector_of_its_own():
    item = towers().item
    content = np.stack([content_features(Content("a", genres=["drama"])), content_features(Content("b", genres=["comedy"])),
                        np.zeros(CONTENT_WIDTH, np.float32)])
    vectors = item(torch.as_tensor(content), torch.zeros(3, dtype=torch.int64))
    assert torch.allclose(vectors[:2].norm(dim=1), torch.ones(2), atol=1e-5)
    assert torch.isfinite(vectors).all()
    assert not torch.allclose(vectors[0], vectors[1])
    with_id = item(torch.as_tensor(content[:1]), torch.tensor([3]))
    assert not torch.allclose(vectors[0], with_id[0])


@torch.no_grad()
def test_a_pool_weighs_a_play_by_its_age_in_half_lives():
    pooling = Pooling(replace(SMALL, query="pooled", heads=2, history_length=32))
    half_life_H = pooling.log_half_life.exp()
    assert torch.allclose(half_life_H, torch.tensor([0.5, 8.0])), "from half a play to a quarter of the history"
    hidden_SS = torch.full((9, 9), float("-inf")).triu(1)
    weight_HSS = pooling.weights(hidden_SS)
    for half_life, weight_SS in zip(half_life_H, weight_HSS):
        decay_S = 0.5 ** (torch.arange(8, -1, -1) / half_life)
        assert torch.allclose(weight_SS[8], decay_S / decay_S.sum(), atol=1e-6)
        assert torch.equal(weight_SS[0], torch.eye(9)[0])
    x_BSD = some(3, 9, SMALL.dimension)
    value = pooling.value(x_BSD)
    first, second = (weight_HSS[h] @ value[..., part] for h, part in ((0, slice(0, 8)), (1, slice(8, 16))))
    assert torch.allclose(pooling(x_BSD, hidden_SS), pooling.out(torch.cat([first, second], dim=-1)), atol=1e-6)


@both
@torch.no_grad()
@pytest.mark.parametrize("ordered", [True, False])
def test_the_order_of_earlier_plays_matters_except_in_sets(query, ordered):
    torch.manual_seed(1)
    made = Towers(replace(SMALL, query=query, ordered=ordered), 10).eval().query
    vectors, features, profile = some(1, 6, SMALL.dimension), some(1, 6, EVENT_WIDTH), some(1, PROFILE_WIDTH)
    turned = [3, 1, 4, 0, 2, 5]
    before, after = made.states(vectors, features, profile), made.states(vectors[:, turned], features[:, turned], profile)
    assert torch.allclose(before[:, -1], after[:, -1], atol=1e-5) is not ordered


def test_dropout_hides_its_share_and_keeps_the_mean():
    torch.manual_seed(1)
    ones, dropout = torch.ones(301, 997), Dropout(0.2)
    dropped = dropout(ones)
    hidden = (dropped == 0).float()
    assert hidden.mean() == pytest.approx(51 / 256, abs=0.003)
    assert dropped.mean() == pytest.approx(1.0, abs=0.004)
    assert torch.corrcoef(torch.stack([hidden[:, :-1].flatten(), hidden[:, 1:].flatten()]))[0, 1].abs() < 0.01
    assert not torch.equal(dropout(ones), dropped)
    assert torch.equal(dropout.eval()(ones), ones)

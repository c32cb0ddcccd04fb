"""Training: it learns, it repeats itself to the byte, and what it exports is what it trained."""

from dataclasses import replace

import numpy as np
import onnxruntime
import pytest
import torch

from contracts.errors import MarqueeError, UsageError
from contracts.query import ID_TITLES, ITEM_INPUTS
from contracts.release import ITEM_TOWER, QUERY_TOWER
from contracts.settings import REPOSITORY
from jobs.towers import export as exporting
from jobs.towers.dataset import make_batch, plan_batches
from jobs.towers.export import export
from jobs.towers.fit import Trainer, low_precision
from jobs.towers.progress import Checkpoint
from tests.jobs.towers.conftest import SMALL, made_up

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def fitted(data):
    return Trainer(data, SMALL, CPU, 1).run()


@pytest.fixture(scope="module")
def exported(fitted, tmp_path_factory):
    """The folder with both files; exporting takes seconds, so that the tests share one."""
    folder = tmp_path_factory.mktemp("exported")
    export(fitted.towers, fitted.id_titles, SMALL, folder)
    return folder


@pytest.mark.parametrize(("query", "loss"), [("transformer", "full"), ("transformer", "sampled"), ("pooled", "sampled")])
def test_learning_beats_popularity_on_held_out_plays(data, query, loss):
    done = Trainer(data, replace(SMALL, query=query, loss=loss, uniform_negatives=16), CPU, 1).run()
    assert done.validation_labels > 50
    assert done.curve[-1].loss < done.curve[0].loss
    assert done.curve[done.best].recall == max(point.recall for point in done.curve)
    assert done.curve[done.best].recall > 2 * done.popularity_recall


def test_training_ends_when_nothing_better_comes(data, monkeypatch):
    seen = iter([0.3, 0.5, 0.4, 0.4, 0.4, 0.9])
    monkeypatch.setattr(Trainer, "recall", lambda _: next(seen))
    done = Trainer(data, replace(SMALL, epochs=6, patience=3), CPU, 1).run()
    assert [point.recall for point in done.curve] == [0.3, 0.5, 0.4, 0.4, 0.4]
    assert done.best == 1


def test_equal_seeds_give_equal_bytes_without_machine_paths(data, fitted, exported, tmp_path):
    again = Trainer(data, SMALL, CPU, 1).run()
    assert again.curve == fitted.curve
    export(again.towers, again.id_titles, SMALL, tmp_path)
    for name in (ITEM_TOWER, QUERY_TOWER):
        one, other = ((folder / name).read_bytes() for folder in (exported, tmp_path))
        assert one == other
        for trace in (str(REPOSITORY).encode(), b"site-packages", b"model.py", b"stack_trace"):
            assert trace not in one
    assert sorted(f.name for f in exported.iterdir()) == sorted((ITEM_TOWER, QUERY_TOWER))
    other_seed = Trainer(data, replace(SMALL, seed=8, epochs=1), CPU, 1).run()
    assert other_seed.curve[0] != fitted.curve[0]


class Killed(Exception):
    pass


@pytest.mark.parametrize("changes", [{"dropout": 0.2}, {"ordered": False}, {"loss": "sampled", "uniform_negatives": 16}])
def test_a_training_that_was_killed_goes_on_to_the_same_weights(data, tmp_path, monkeypatch, changes):
    config = replace(SMALL, **changes)
    whole = Trainer(data, config, CPU, 1).run()
    checkpoint = Checkpoint(tmp_path / "work" / "towers.pt", "this run")
    seen = []

    def killed_in_epoch_three(steps, what):
        seen.append(what)
        for number, step in enumerate(steps):
            if len(seen) == 3 and number == 1:
                raise Killed
            yield step

    with pytest.raises(Killed):
        Trainer(data, config, CPU, 1).run(killed_in_epoch_three, checkpoint)
    assert Checkpoint(checkpoint.path, "another run").load() is None
    resumed = Trainer(data, config, CPU, 1).run(killed_in_epoch_three, checkpoint)
    assert [what.split()[1] for what in seen] == ["1/4", "2/4", "3/4", "3/4", "4/4"]
    assert resumed.curve == whole.curve
    for name, weight in whole.towers.state_dict().items():
        assert torch.equal(weight, resumed.towers.state_dict()[name]), name
    checkpoint.path.write_bytes(checkpoint.path.read_bytes()[:1000])
    assert checkpoint.load() is None


@pytest.mark.parametrize("loss", ["full", "sampled"])
def test_mixed_precision_learns_as_much_and_repeats_itself(data, loss):
    config = replace(SMALL, loss=loss, uniform_negatives=16, precision="bfloat16")
    plain, mixed, again = (Trainer(data, replace(config, precision=p), CPU, 1).run() for p in ("float32", "bfloat16", "bfloat16"))
    assert mixed.curve == again.curve
    assert mixed.curve != plain.curve
    assert mixed.curve[-1].loss == pytest.approx(plain.curve[-1].loss, rel=0.03)
    assert mixed.curve[mixed.best].recall > 2 * mixed.popularity_recall
    assert all(weight.dtype == torch.float32 for weight in mixed.towers.parameters())


def test_a_cpu_multiplies_in_float32_unless_told_otherwise():
    assert not low_precision(SMALL, CPU)
    assert low_precision(replace(SMALL, precision="bfloat16"), CPU)
    with pytest.raises(UsageError, match="precision 'half'"):
        replace(SMALL, precision="half")


def test_the_exported_item_tower_knows_its_titles_and_embeds_any_number(fitted, exported, data):
    session = onnxruntime.InferenceSession(str(exported / ITEM_TOWER))
    assert fitted.id_titles == sorted(fitted.id_titles)
    assert session.get_modelmeta().custom_metadata_map[ID_TITLES].startswith('["t000",')
    for count in (1, 7):
        inputs = dict(zip(ITEM_INPUTS, (data.content_AF[:count], np.zeros(count, np.int64))))
        assert session.run(None, inputs)[0].shape == (count, SMALL.dimension)


def test_a_pooled_tower_is_exported_under_the_same_contract(data, exported, tmp_path):
    config = replace(SMALL, query="pooled", loss="sampled", epochs=1)
    done = Trainer(data, config, CPU, 1).run()
    differences = export(done.towers, done.id_titles, config, tmp_path)
    assert max(differences.values()) <= exporting.PARITY
    one, other = (onnxruntime.InferenceSession(str(folder / QUERY_TOWER)).get_inputs() for folder in (exported, tmp_path))
    assert [(i.name, i.shape[1:], i.type) for i in one] == [(i.name, i.shape[1:], i.type) for i in other]


def test_sparse_ids_learn_what_dense_ones_learn(data, monkeypatch):
    """The same first step; later ones differ a little, since an id's moments stand still where it is not used."""
    config = replace(SMALL, loss="sampled", uniform_negatives=16, weight_decay=0.0, epochs=1)
    sparse, dense = Trainer(data, config, CPU, 1), Trainer(data, config, CPU, 1)
    dense.sparse_ids = dense.towers.item.id.sparse = False
    assert sparse.towers.item.id.sparse
    monkeypatch.setattr("jobs.towers.fit.GRADIENT_NORM", float("inf"))
    weights = []
    for trainer in (sparse, dense):
        batch = make_batch(data.plays, trainer.windows, plan_batches(trainer.windows, config.tokens_per_batch)[0])
        _, optimisers = trainer._optimisers()
        trainer.loss(batch).backward()
        for optimiser in optimisers:
            optimiser.step()
        weights.append(trainer.towers.item.id.weight.detach())
    assert torch.allclose(*weights, atol=1e-6)
    assert not torch.allclose(weights[0], Trainer(data, config, CPU, 1).towers.item.id.weight, atol=1e-4)


def test_a_file_that_differs_from_torch_is_refused(fitted, exported):
    class Another(torch.nn.Module):
        def forward(self, *inputs):
            return fitted.towers.item(*inputs) + 1e-3

    with pytest.raises(MarqueeError, match="differs from torch"):
        exporting.parity(Another(), exported / ITEM_TOWER, exporting.item_examples(len(fitted.id_titles)))


def test_the_holdout_is_never_trained_on(data):
    """Other plays in the held-out days, other validation, the same weights."""
    late = data.held_out_E
    shuffled = np.where(late, (data.plays.title + 7) % len(data.title_ids), data.plays.title)
    other = replace(data, plays=replace(data.plays, title=shuffled))
    config = replace(SMALL, epochs=1)
    one, two = (Trainer(d, config, CPU, 1).run() for d in (data, other))
    assert one.curve[0].loss == two.curve[0].loss
    assert one.curve[0].recall != two.curve[0].recall
    for a, b in zip(one.towers.state_dict().values(), two.towers.state_dict().values()):
        assert torch.equal(a, b)


def test_titles_first_played_in_the_holdout_have_no_id(data):
    late = data.held_out_E
    fresh = np.where(late, len(data.title_ids) - 1, np.minimum(data.plays.title, len(data.title_ids) - 2))
    index = replace(data, plays=replace(data.plays, title=fresh)).id_index(1)
    assert index[-1] == 0
    assert index[:-1].tolist() == list(range(1, len(index)))


def test_nothing_to_learn_from_is_said():
    data = made_up(profiles=3, length=2)
    with pytest.raises(MarqueeError, match="nothing to learn from"):
        Trainer(replace(data, trains_E=~(data.trains_E | data.held_out_E)), SMALL, CPU, 1)


def test_what_is_no_number_is_said_and_never_the_best_epoch(data, monkeypatch):
    """Nothing scores above a score that is no number, so that such towers would find everything."""
    content_AF = data.content_AF.copy()
    content_AF[3, 0] = np.nan
    with pytest.raises(MarqueeError, match=f"content features of 1 titles are no numbers: {data.title_ids[3]} first"):
        Trainer(replace(data, content_AF=content_AF), SMALL, torch.device("cpu"), 1)
    monkeypatch.setattr(Trainer, "loss", lambda self, _: self.towers.item.content.weight.sum() * float("inf") * 0)
    with pytest.raises(MarqueeError, match="loss is no number in epoch 1"):
        Trainer(data, SMALL, torch.device("cpu"), 1).run()


def test_a_wrong_configuration_is_refused():
    with pytest.raises(UsageError, match="not a multiple"):
        replace(SMALL, dimension=15)
    with pytest.raises(UsageError, match="transformer, pooled"):
        replace(SMALL, query="lstm")
    with pytest.raises(UsageError, match=r"temperature 0\.01"):
        replace(SMALL, temperature=0.01)
    with pytest.raises(UsageError, match="auto, full, sampled"):
        replace(SMALL, loss="hinge")

"""Text encoders by name: what the default learns, a sentence-transformers model where there is that package, a refusal where not."""

import sys
from types import ModuleType

import numpy as np
import pytest

from contracts.content import CONTENT_WIDTH, HASHED_WORDS, TEXT, Content, content_matrix, content_width
from contracts.errors import MarqueeError, UsageError
from contracts.release import ITEM_TOWER
from jobs import text
from jobs.embed import Embedder
from jobs.text import latent
from jobs.towers.config import TowersConfig
from jobs.towers.export import export
from jobs.towers.model import Towers

NAME = "sentence-transformers:letters"
CONTENTS = [Content("a", "Alpha", "one two", ["drama"]), Content("b", "Beta", "three", ["comedy"])]


class Letters:
    """Stands for a model of that package: how often each of the first five letters occurs."""

    def __init__(self, name: str) -> None:
        if name != "letters":
            raise OSError(f"{name} is not a model\nand more lines")

    def get_sentence_embedding_dimension(self) -> int:
        return 5

    def encode(self, texts, normalize_embeddings, show_progress_bar):
        counts = np.array([[said.lower().count(letter) for letter in "abcde"] for said in texts], float)
        return counts / np.linalg.norm(counts, axis=1, keepdims=True)


MODULE = ModuleType("sentence_transformers")
MODULE.SentenceTransformer = Letters


@pytest.fixture
def installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "sentence_transformers", MODULE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Towers that read texts through the named model."""
    made = tmp_path_factory.mktemp("towers")
    config = TowersConfig(dimension=8, layers=1, feed_forward=8, history_length=4, text_encoder=NAME)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "sentence_transformers", MODULE)
        export(Towers(config, 1, CONTENT_WIDTH - TEXT + 5), ["a"], config, made, text.fit(NAME, []))
    return made


def test_a_title_is_embedded_with_the_encoder_that_its_tower_names(installed, folder):
    embedder = Embedder(folder / ITEM_TOWER, "cpu")
    assert embedder.text.name == NAME
    assert embedder.embed(CONTENTS, np.zeros(2, np.int64), 1).shape == (2, 8)
    features = content_matrix(CONTENTS, embedder.text)
    assert np.allclose(features[0, :5], np.array([2, 0, 0, 0, 1]) / 5**0.5), "alpha one two"
    assert np.array_equal(features[:, 5:], content_matrix(CONTENTS)[:, TEXT:])


def test_without_the_package_that_tower_is_refused(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(UsageError, match="sentence-transformers:letters: the package sentence-transformers is not installed"):
        Embedder(folder / ITEM_TOWER, "cpu")


def test_a_tower_whose_encoder_has_another_width_by_now_is_refused(installed, folder, monkeypatch):
    monkeypatch.setattr(Letters, "get_sentence_embedding_dimension", lambda self: 6)
    with pytest.raises(MarqueeError, match="reads content of width"):
        Embedder(folder / ITEM_TOWER, "cpu")


def test_towers_that_name_no_encoder_read_hashed_words():
    assert text.encoder_of({}) is HASHED_WORDS


def test_names_that_there_are_not(installed):
    for name in ("bert", "sentence-transformers:"):
        with pytest.raises(UsageError, match="there are tf-idf svd, hashed words and sentence-transformers:<model>"):
            TowersConfig(text_encoder=name)
    with pytest.raises(UsageError, match=r"sentence-transformers:other: no such model can be had: other is not a model$"):
        text.fit("sentence-transformers:other", [])


SEA = ["captain sails stormy ocean", "ocean harbour captain", "harbour whales ocean", "whales stormy sails"]
COURT = ["lawyer defends murder trial", "trial judge lawyer", "judge verdict murder", "verdict defends trial"]


def test_latent_text_brings_together_what_shares_no_word(monkeypatch):
    monkeypatch.setattr(latent, "WIDTH", 2)
    encode = text.fit("tf-idf svd", SEA * 3 + COURT * 3).encode
    captain, whales, lawyer, nothing = encode(["The captain", "whales, WHALES", "a lawyer", "unheard"])
    assert captain @ whales > 0.5 > 0.2 > abs(captain @ lawyer)
    assert np.linalg.norm(captain) == pytest.approx(1)
    assert not nothing.any()
    assert not HASHED_WORDS.encode(["the captain"])[0] @ HASHED_WORDS.encode(["whales"])[0]


def test_a_word_counts_the_more_the_fewer_texts_have_it():
    encode = text.fit("tf-idf svd", [f"{line} everywhere" for line in SEA + COURT]).encode
    both, rare, common = encode(["everywhere verdict", "verdict", "everywhere"])
    assert both @ rare > both @ common


def test_what_was_learnt_travels_in_the_item_tower(tmp_path):
    config = TowersConfig(dimension=8, layers=1, feed_forward=8, history_length=4)
    encoder = text.fit(config.text_encoder, SEA + COURT)
    export(Towers(config, 1, content_width(encoder)), ["a"], config, tmp_path, encoder)
    read = Embedder(tmp_path / ITEM_TOWER, "cpu").text
    assert np.array_equal(read.encode(SEA + COURT), encoder.encode(SEA + COURT))
    assert encoder.state == text.fit(config.text_encoder, SEA + COURT).state, "learnt alike again"


@pytest.mark.parametrize("texts", [[], ["", " "], ["no word", "twice here"], ["one and the same"] * 3])
def test_a_catalogue_that_says_little_gives_rows_of_full_width(texts):
    rows = text.fit("tf-idf svd", texts).encode(["no word of it", ""])
    assert rows.shape == (2, latent.WIDTH)
    assert np.isfinite(rows).all()

"""TF-IDF of a catalogue's words, reduced by a truncated SVD: latent semantic analysis (Deerwester et al., 1990).

Shape suffixes: N texts, V words, K = WIDTH.
"""

import base64
from collections import Counter
from collections.abc import Sequence

import numpy as np
from scipy import sparse
from sklearn.utils.extmath import randomized_svd

from contracts.content import TextEncoder, words

NAME = "tf-idf svd"
WIDTH = 128
MOST_WORDS = 16_384
"""The words that the most texts have; a word of one text only says nothing about another."""
TEXTS_TO_FIT = 50_000
"""Evenly spaced texts are enough to learn from."""


def fit(texts: Sequence[str]) -> TextEncoder:
    """Learns words, their weights and directions; from texts without a word in common, an encoder of zeros."""
    some = texts[:: max(len(texts) // TEXTS_TO_FIT, 1)]
    bags = [Counter(words(text)) for text in some]
    spread = Counter(word for bag in bags for word in bag)
    chosen = sorted(sorted((word for word in spread if spread[word] > 1), key=lambda word: (-spread[word], word))[:MOST_WORDS])
    weight_V = np.log((1 + len(some)) / (1 + np.array([spread[word] for word in chosen], np.float64))) + 1
    tfidf_NV = _normalised(_counts(bags, chosen) @ sparse.diags_array(weight_V))
    direction_VK = np.zeros((len(chosen), WIDTH))
    found = min(WIDTH, *tfidf_NV.shape)
    if found:
        _, _, direction_KV = randomized_svd(tfidf_NV, found, random_state=0)
        direction_VK[:, :found] = direction_KV.T
    projection_VK = (weight_V[:, None] * direction_VK).astype(np.float16)
    return load({"words": chosen, "projection": base64.b64encode(projection_VK.astype("<f2").tobytes()).decode()})


def load(state: dict) -> TextEncoder:
    """The encoder whose `state` this is: `words`, and `projection` (V,K) float16, little-endian, as base64."""
    projection_VK = np.frombuffer(base64.b64decode(state["projection"]), "<f2").reshape(len(state["words"]), WIDTH).astype(np.float32)

    def encode(texts: Sequence[str]) -> np.ndarray:
        rows_NK = _counts([Counter(words(text)) for text in texts], state["words"]).astype(np.float32) @ projection_VK
        norm_N1 = np.linalg.norm(rows_NK, axis=1, keepdims=True)
        return rows_NK / np.where(norm_N1 > 0, norm_N1, 1)

    return TextEncoder(NAME, WIDTH, encode, state)


def _counts(bags: Sequence[Counter], chosen: list[str]) -> sparse.csr_array:
    """(N,V) sublinear counts, 1 + log n."""
    column = {word: index for index, word in enumerate(chosen)}
    known = [[(column[word], count) for word, count in bag.items() if word in column] for bag in bags]
    lengths = np.cumsum([0, *map(len, known)])
    pairs = np.array([pair for row in known for pair in row], np.float64).reshape(-1, 2)
    return sparse.csr_array((1 + np.log(pairs[:, 1]), pairs[:, 0].astype(np.int32), lengths), (len(bags), len(chosen)))


def _normalised(rows: sparse.csr_array) -> sparse.csr_array:
    norm_N = np.sqrt((rows * rows).sum(axis=1))
    return sparse.diags_array(1 / np.where(norm_N > 0, norm_N, 1)) @ rows

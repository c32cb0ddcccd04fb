"""What turns a title's text into numbers, by name: the contract's hashed words, or a sentence-transformers model for
those who have that package. The item tower's file carries the name, so that whoever embeds with it reads texts alike."""

import json
from collections.abc import Mapping

import numpy as np

from contracts.content import HASHED_WORDS, TextEncoder
from contracts.errors import UsageError
from contracts.query import TEXT_ENCODER

SENTENCES = "sentence-transformers:"


def check_name(name: str) -> None:
    """Raises UsageError for a name that no encoder has."""
    if name != HASHED_WORDS.name and not (name.startswith(SENTENCES) and name != SENTENCES):
        raise UsageError(f"text encoder {name!r}; there are {HASHED_WORDS.name} and {SENTENCES}<model>")


def encoder(name: str) -> TextEncoder:
    """Raises UsageError where there is none of that name, its package is missing or its model cannot be had."""
    check_name(name)
    return HASHED_WORDS if name == HASHED_WORDS.name else _sentences(name)


def encoder_of(metadata: Mapping[str, str]) -> TextEncoder:
    """The one that an item tower was trained with, by its file's metadata."""
    return encoder(json.loads(metadata.get(TEXT_ENCODER, f'"{HASHED_WORDS.name}"')))


def _sentences(name: str) -> TextEncoder:
    try:
        from sentence_transformers import SentenceTransformer  # no dependency of ours: only where a recipe names it
    except ImportError:
        raise UsageError(f"text encoder {name}: the package sentence-transformers is not installed here; install it, "
                         f"or train with the text encoder {HASHED_WORDS.name}") from None
    try:
        model = SentenceTransformer(name.removeprefix(SENTENCES))
    except (OSError, ValueError) as error:
        raise UsageError(f"text encoder {name}: no such model can be had: {str(error).splitlines()[0]}") from None

    def encode(texts) -> np.ndarray:
        return np.asarray(model.encode(list(texts), normalize_embeddings=True, show_progress_bar=False), np.float32)

    return TextEncoder(name, model.get_sentence_embedding_dimension(), encode)

"""What turns a title's text into numbers, by name: TF-IDF reduced by an SVD that learns from the catalogue at hand (the
default), the contract's hashed words, which learn nothing, or a sentence-transformers model for those who have that
package. The item tower's file carries the name and what was learnt, so that whoever embeds with it reads texts alike."""

import json
from collections.abc import Mapping, Sequence

from contracts.content import HASHED_WORDS, TextEncoder
from contracts.errors import UsageError
from contracts.query import TEXT_ENCODER, TEXT_STATE
from jobs.text import latent
from jobs.text.sentences import SENTENCES, sentences


def check_name(name: str) -> None:
    """Raises UsageError for a name that no encoder has."""
    if name not in (latent.NAME, HASHED_WORDS.name) and not (name.startswith(SENTENCES) and name != SENTENCES):
        raise UsageError(f"text encoder {name!r}; there are {latent.NAME}, {HASHED_WORDS.name} and {SENTENCES}<model>")


def fit(name: str, texts: Sequence[str]) -> TextEncoder:
    """The encoder of that name, having learnt from the texts what it learns. Raises UsageError where there is none of
    that name, its package is missing or its model cannot be had."""
    check_name(name)
    return latent.fit(texts) if name == latent.NAME else _ready(name)


def encoder_of(metadata: Mapping[str, str]) -> TextEncoder:
    """The one that an item tower was trained with, by its file's metadata. Raises UsageError as `fit`."""
    name = json.loads(metadata.get(TEXT_ENCODER, f'"{HASHED_WORDS.name}"'))
    check_name(name)
    return latent.load(json.loads(metadata[TEXT_STATE])) if name == latent.NAME else _ready(name)


def metadata_of(encoder: TextEncoder) -> dict[str, object]:
    """What `encoder_of` reads, each value yet to be made JSON."""
    return {TEXT_ENCODER: encoder.name} | ({TEXT_STATE: encoder.state} if encoder.state else {})


def _ready(name: str) -> TextEncoder:
    return HASHED_WORDS if name == HASHED_WORDS.name else sentences(name)

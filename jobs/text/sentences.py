"""A sentence-transformers model as text encoder."""

import numpy as np

from contracts.content import TextEncoder
from contracts.errors import UsageError

SENTENCES = "sentence-transformers:"
"""What the name of such an encoder begins with; the model's name follows."""


def sentences(name: str) -> TextEncoder:
    """Raises UsageError where the package is missing or the model cannot be had."""
    try:
        from sentence_transformers import SentenceTransformer  # no dependency of ours: only where a recipe names it
    except ImportError:
        raise UsageError(f"text encoder {name}: the package sentence-transformers is not installed here; install it, "
                         "or train with another text encoder") from None
    try:
        model = SentenceTransformer(name.removeprefix(SENTENCES))
    except (OSError, ValueError) as error:
        raise UsageError(f"text encoder {name}: no such model can be had: {str(error).splitlines()[0]}") from None

    def encode(texts) -> np.ndarray:
        return np.asarray(model.encode(list(texts), normalize_embeddings=True, show_progress_bar=False), np.float32)

    return TextEncoder(name, model.get_sentence_embedding_dimension(), encode)

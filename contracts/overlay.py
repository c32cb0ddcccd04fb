"""The overlay of a release: titles that arrived or changed since it was built, embedded by its own item tower.

Append-only, numbered over all releases. An overlay title is searched for in process, where the eligibility log alone
decides; the vector collection holds the base only, and never changes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, eq=False)
class OverlayRecord:
    """One title of one release from here on. `title_seq` is the log's number of the title version; `content` as
    contracts.content.content_json gives it; the vector is (D,) float32, L2 norm 1."""

    seq: int
    title_id: str
    title_seq: int
    content: Mapping[str, Any]
    vector_D: np.ndarray


def overlay_cursor(release_id: str) -> str:
    """Name of the cursor that says up to which number of the eligibility log a release's overlay was made."""
    return f"overlay/{release_id}"

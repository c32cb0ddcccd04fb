"""Tables from title to title, shared by those that make them.

Shape suffixes: R rows of the table.
"""

import numpy as np


def strongest(source_R: np.ndarray, target_R: np.ndarray, strength_R: np.ndarray, most: int) -> np.ndarray:
    """Places of the `most` strongest rows of each source, by source, strongest first; of equal ones the earlier target first."""
    order = np.lexsort((target_R, -strength_R, source_R))
    ranked = source_R[order]
    return order[np.arange(len(ranked)) - np.searchsorted(ranked, ranked) < most]

"""The two towers: one reads a title's content, the other a profile's recent plays; both end in the same space.

`dataset.py` plays at the tag -> windows with labels; `model.py` the towers; `start.py` where their ids start; `losses.py`
full and sampled softmax; `fit.py` the training loop; `export.py` ONNX; `tracking.py` MLflow; `train.py` the command.
Not here: embedding the catalogue and the vector index (jobs/index), ranking (jobs/ranker).
"""

import os

# Read when torch loads its OpenMP, so it stands here, before any import of it. Threads that spin at every barrier starve
# each other where the cores are shared with a scheduler: 1.0 instead of 8.1 s a batch on two loaded cores.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

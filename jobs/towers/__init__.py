"""The two towers: one reads a title's content, the other a profile's recent plays; both end in the same space.

`dataset.py` plays at the tag -> windows with labels; `model.py` the towers; `start.py` where their ids start; `losses.py`
full and sampled softmax; `fit.py` the training loop; `progress.py` how far it has come, also after a kill; `export.py` ONNX;
`tracking.py` MLflow; `train.py` the command.
Not here: embedding the catalogue and the vector index (jobs/index), ranking (jobs/ranker).
"""

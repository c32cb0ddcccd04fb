"""The steps of a night, one package a step, in data-flow order; `cli.py` is the only entry point."""

import os

# Read when a library loads its OpenMP, so it stands here, before any import of one. Threads that spin at every barrier
# starve each other where the cores are shared with a scheduler: 1.0 instead of 8.1 s a batch on two loaded cores.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

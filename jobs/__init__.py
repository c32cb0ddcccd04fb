"""The steps of a night, one package a step, in data-flow order; `cli.py` is the only entry point."""

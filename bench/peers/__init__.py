"""Peers on the rows, splits and evaluation of bench/retrieval, in an environment of their own: NumPy 1.26, RecTools, implicit.

`__main__.py` runs each peer in a process of its own and puts the results together; `environment.py` makes the environment;
`one.py` is such a process; `models.py` and `sasrec.py` are the peers. Not here: the product (bench/retrieval, bench/ranking).
"""

"""Quality of the whole funnel on any interactions: the product's towers, then its ranker, on the protocols of bench/retrieval.

`block.py` what the ranker learns on; `pools.py` candidates with the product's own ranking features; `funnel.py` retrieval
order, blend and LambdaMART as full rankings; `__main__.py` the command. Not here: logged slates and position bias, which
files of interactions do not have.
"""

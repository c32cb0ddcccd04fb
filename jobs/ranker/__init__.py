"""The ranker: learns on the block that the retriever and the title counts have not seen.

`asof.py` what was known at a moment; `places.py` how likely each place was looked at; `pool.py` a request's candidates as
serving would retrieve them; `rows.py` training and validation rows; `choose.py` LambdaMART, blends and retrieval order, one
picked; `tracking.py` MLflow; `train.py` the command. Not here: ranking features (contracts/features.py), the
attention curve's estimate (jobs/attention.py), the judgement of the whole funnel (jobs/evaluation).
"""

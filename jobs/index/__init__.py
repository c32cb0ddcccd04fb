"""Everything that serving reads of a release's catalogue: vectors, titles, transitions, fallback orders, and the
Milvus collection made of them.

`build.py` the command; `catalogue.py` lake rows -> titles; `embed.py` titles -> vectors; `transitions.py` and
`fallback.py` plays -> tables; `collection.py` the collection; `check.py` proves it before anybody searches it.
Not here: training the towers (jobs/towers), arrivals after the build (jobs/release/launches.py).
"""

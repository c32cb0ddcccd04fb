"""Everything that serving reads of a release's catalogue: vectors, titles, transitions, fallback orders, and the
Milvus collection made of them.

`build.py` the command; `catalogue.py` lake rows -> titles; `transitions.py`, `cowatch.py` and `fallback.py` plays -> tables;
`tables.py` what those share; `collection.py` the collections; `check.py` proves them before anybody searches them.
Not here: training the towers (jobs/towers), titles to vectors (jobs/embed.py), arrivals after the build
(jobs/release/launches.py, overlay.py).
"""

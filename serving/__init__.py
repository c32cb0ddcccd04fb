"""The API that home screens come from: one request, one release, five stages.

    token ─► hydrate ─► retrieve ─► guard ─► score ─► arrange ─► answer
             Feast      Milvus      log      ranker   order, fill

`pipeline.py` is the path; each stage has the file of its name; `fallbacks.py` says what stands in for a failed stage;
`loader.py` turns a folder into a release in memory; `live.py` follows the ledger's pointer; `eligibility.py` follows
the log. What stays out: building, judging and promoting releases (`jobs`), and writing to the ledger, except for
leases and the rollback of an overdue probe.
"""

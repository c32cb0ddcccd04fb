"""One screen per DAG; only orchestration. `lib/` has what they share."""

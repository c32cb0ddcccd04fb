"""A release from its name to its end: begin, seal, ask, swap, probe, record, roll back; the eligibility log; looking.

Not here: what builds a release's files (towers, index, ranker) and what judges it (evaluation).
"""

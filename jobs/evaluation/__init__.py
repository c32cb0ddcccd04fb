"""The judge: asks real shadow servers, compares with live, popularity and retrieval order, decides gates, writes evidence.

`requests.py` who asked and what was relevant; `shadow.py` servers and clients; `eligible.py` the judge's own guard;
`metrics.py` and `figures.py` figures; `gates.py` rules; `golden.py` synthetic profiles; `changes.py`, `card.py`,
`plots.py`, `report.py` what the approver reads; `judge.py` the command.
"""

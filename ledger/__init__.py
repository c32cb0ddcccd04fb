"""The ledger: what happened to every release, which one is live, who serves it, who may see what, and what arrived since.

SQL through SQLAlchemy, SQLite in the embedded default and PostgreSQL in production; Alembic migrates it on first use.
Imports `contracts` and nothing else of the project. Not here: files of releases (jobs/release), rules of eligibility
(contracts/eligibility.py).

    releases, transitions   journal.py     states of states.py, append-only history
    pointer                 pointer.py     one row per arm, compare-and-swap
    replicas                               leases of serving processes
    eligibility_log         eligibility.py numbered, append-only
    live_quality, decisions nights.py      what nights leave besides releases
    overlay                 overlay.py     numbered, append-only, beside each kept release
"""

from ledger.errors import ForbiddenTransition, LedgerUnavailable, StaleVersion, UnknownRelease
from ledger.ledger import Ledger, open_ledger
from ledger.rows import Decision, LiveQuality, Pointer, ReleaseRow, Replica, Transition

__all__ = ["Decision", "ForbiddenTransition", "Ledger", "LedgerUnavailable", "LiveQuality", "Pointer", "ReleaseRow", "Replica", "StaleVersion",
           "Transition", "UnknownRelease", "open_ledger"]

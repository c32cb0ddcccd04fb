"""The eligibility log in memory: a thread applies new entries about every second; requests read whole snapshots.

Fails closed: until the log was read once there is no snapshot, and nothing is served. Each look reads the last entry again:
where it is another, the ledger was put back from a copy, and the log is read anew from its start.
"""

import logging
import time
from collections.abc import Callable
from threading import Event, Lock, Thread

from contracts.eligibility import Eligibility, Record
from ledger import Ledger

log = logging.getLogger("marquee.serving")

POLL_SECONDS = 1.0
STALE_SECONDS = 30.0
"""Answers say that they are degraded once the log could not be read for so long: closures may be missed."""
READ_LIMIT = 50_000


def extended(known: Eligibility, records: list[Record]) -> Eligibility:
    """`known` with more entries, as a new object: a request in flight keeps the snapshot that it began with."""
    windows = dict(known.windows)
    for record in records:
        if record.kind != "title":
            key = (record.title_id, record.market)
            windows[key] = dict(windows.get(key, {}))
    new = Eligibility(known.seq, dict(known.maturity), windows)
    new.apply(records)
    return new


class EligibilityLog:
    """Follows the log. `ledger` opens the ledger, and may fail as often as it likes."""

    def __init__(self, ledger: Callable[[], Ledger]):
        self._ledger = ledger
        self._snapshot: Eligibility | None = None
        self._last: Record | None = None
        self._read_at = 0.0
        self._reading = Lock()
        self._stop = Event()
        self._thread = Thread(target=self._follow, name="eligibility", daemon=True)

    @property
    def snapshot(self) -> Eligibility | None:
        """What is known of the log; None until it was read once. Never changed in place."""
        return self._snapshot

    @property
    def stale(self) -> bool:
        return time.monotonic() - self._read_at > STALE_SECONDS

    def catch_up(self) -> None:
        """Reads to the head of the log. Raises what the database raises."""
        with self._reading:
            known, last = self._snapshot or Eligibility(), self._last
            while True:
                records = self._ledger().eligibility_since(known.seq - 1 if last else 0, READ_LIMIT)
                if last and records[:1] != [last]:
                    log.warning("the eligibility log no longer has its entry %d: it is read anew", last.seq)
                    known, last = Eligibility(), None
                    continue
                if not (new := records[1:] if last else records):
                    break
                known, last = extended(known, new), new[-1]
            self._snapshot, self._last, self._read_at = known, last, time.monotonic()

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(5)

    def _follow(self) -> None:
        failing = False
        while not self._stop.is_set():
            try:
                self.catch_up()
                failing = False
            except Exception as error:
                if not failing:
                    log.warning("the eligibility log cannot be read: %s", error)
                failing = True
            self._stop.wait(POLL_SECONDS)

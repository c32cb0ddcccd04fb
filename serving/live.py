"""Which release is served. In production a thread follows the ledger's pointer:

    pointer.candidate   → load it beside the live one, and say so with the next heartbeat
    pointer.release_id  → serve it, at once where it is loaded
    pointer.previous    → keep it loaded, so that a rollback is a matter of one assignment
    overdue probe       → revert it

It reads what is new in the overlays of all that is loaded, too.

Requests take `current()` once and end on the release that they began with. While the ledger cannot be reached, what is
served stays served.
"""

import logging
import os
import secrets
import socket
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread
from typing import Protocol

from contracts.settings import Settings
from ledger import Ledger, Pointer
from serving import loader, overlay
from serving.eligibility import EligibilityLog
from serving.loader import Release, ReleaseError
from serving.metrics import Metrics
from serving.vectors import Vectors

log = logging.getLogger("marquee.serving")

POLL_SECONDS = 0.3
HEARTBEAT_SECONDS = 2.0
LEASE_SECONDS = 10.0
TEND_SECONDS = 1.0
OVERLAY_SECONDS = 1.0
RETRY_LOAD_SECONDS = 5.0
GRACE_SECONDS = 30.0
"""A release that nobody wants any more stays loaded, and reported, for so long: requests in flight end on it, and garbage
collection drops no collection that a replica reports. Far longer than a request takes (its budgets are below a second)."""
SWITCH_SECONDS = 10.0
"""A replica that loaded a candidate before the swap switches within two polls; one that serves another release than the
pointer's for so long missed the swap, and its answers say so."""


@dataclass(frozen=True)
class Served:
    """What a request takes with it. `stand_in`: it is not the live release, which cannot be loaded or takes too long.
    `behind`: its overlay has more, which does not fit or is being read anew."""

    release: Release
    stand_in: bool = False
    behind: bool = False


class Source(Protocol):
    """Where the served release comes from."""

    def current(self) -> Served | None: ...
    def start(self) -> None: ...
    def stop(self) -> None: ...


class Pinned:
    """One given release, for the shadow server: as it was built, without its overlay, which may know what was not known
    at the moment that is asked about (docs/adr/0007)."""

    def __init__(self, release: Release, vectors: Vectors):
        self._served, self._vectors = Served(release), vectors

    def current(self) -> Served:
        return self._served

    def start(self) -> None:
        self._vectors.tend(self._served.release.collections)

    def stop(self) -> None: ...


class Live:
    """Follows the pointer of one arm."""

    def __init__(
        self, settings: Settings, ledger: Callable[[], Ledger], eligibility: EligibilityLog, vectors: Vectors,
        metrics: Metrics, address: str, load: Callable[[Path], Release] = loader.load,
    ):
        self._releases, self._ledger, self._eligibility = settings.releases, ledger, eligibility
        self._vectors, self._metrics, self._address, self._load = vectors, metrics, address, load
        self.replica_id = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
        self._served: Served | None = None
        self._agreed_at = 0.0  # when what is served was last what the pointer says, monotonic
        self._loaded: dict[str, Release] = {}
        self._wanted_until: dict[str, float] = {}  # release id -> end of its grace, monotonic
        self._loading: dict[str, Future[Release]] = {}
        self._failed: dict[str, float] = {}  # release id -> when it may be tried again, monotonic
        self._loaders = ThreadPoolExecutor(1, "load")
        self._overlays_read_at = 0.0
        self._behind: set[str] = set()  # releases whose overlay could not be followed to its head
        self._said: tuple[list[str], str | None] | None = None
        self._said_at = 0.0
        self._stop = Event()
        self._threads = [Thread(target=self._follow, name="live", daemon=True),
                         Thread(target=self._tend, name="vectors", daemon=True)]

    def current(self) -> Served | None:
        return self._served

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(5)
        self._loaders.shutdown(wait=False, cancel_futures=True)
        try:
            self._ledger().leave(self.replica_id)
        except Exception as error:
            log.warning("could not give the lease back, it runs out by itself: %s", error)

    def follow_once(self) -> None:
        """One look at the ledger and what follows from it. Raises what the ledger raises."""
        pointer = self._ledger().pointer()
        if pointer is not None:
            pointer = self._resolve_overdue(pointer)
            self._load_wanted(pointer)
            self._read_overlays()
            self._serve(pointer)
        self._heartbeat()

    def _follow(self) -> None:
        failing = False
        while not self._stop.is_set():
            try:
                self.follow_once()
                failing = False
            except Exception as error:
                if not failing:
                    log.warning("the ledger cannot be followed, serving on: %s: %s", type(error).__name__, error)
                failing = True
            self._metrics.ledger_reachable.set(not failing)
            self._stop.wait(POLL_SECONDS)

    def _tend(self) -> None:
        while not self._stop.is_set():
            self._vectors.tend({name: rows for release in list(self._loaded.values()) for name, rows in release.collections.items()})
            self._stop.wait(TEND_SECONDS)

    def _resolve_overdue(self, pointer: Pointer) -> Pointer:
        """A probe past its deadline is nobody's any more: the release before serves again."""
        if pointer.phase != "probing":
            return pointer
        reverted = self._ledger().resolve_overdue(self.replica_id)
        if reverted:
            log.warning("the probe of %s is overdue: back to %s", pointer.release_id, reverted.release_id)
        return reverted or pointer

    def _load_wanted(self, pointer: Pointer) -> None:
        """Starts loading what is missing, takes what is loaded, forgets what nobody has wanted for a while. What is served
        is wanted, whatever the pointer says."""
        wanted = dict.fromkeys(filter(None, (pointer.release_id, pointer.candidate, pointer.previous)))
        for release_id in wanted:
            due = self._failed.get(release_id, 0.0) <= time.monotonic()
            if release_id not in self._loaded and release_id not in self._loading and due:
                self._loading[release_id] = self._loaders.submit(self._load_ready, release_id)
        for release_id, future in list(self._loading.items()):
            if future.done():
                del self._loading[release_id]
                self._take(release_id, future)
        now = time.monotonic()
        self._wanted_until |= dict.fromkeys([*wanted, *filter(None, (self._serving(),))], now + GRACE_SECONDS)
        self._loaded = {k: v for k, v in self._loaded.items() if self._wanted_until[k] > now}

    def _load_ready(self, release_id: str) -> Release:
        """Loaded, verified and warm, with its overlay; its collections loaded in the vector database too."""
        entered = self._ledger().get(release_id)
        release = loader.as_entered(self._load(self._releases / release_id), entered.payload_digest, entered.evidence_digest)
        release = overlay.caught_up(release, self._ledger())
        self._vectors.tend(release.collections)
        return release

    def _read_overlays(self) -> None:
        """Now and then, what is new in the overlays."""
        if time.monotonic() - self._overlays_read_at >= OVERLAY_SECONDS:
            for release_id in self._loaded:
                self._catch_up(release_id)
            self._overlays_read_at = time.monotonic()

    def _catch_up(self, release_id: str) -> Release:
        """The release with what is new in its overlay. What is wrong with one release's overlay holds no other up."""
        try:
            self._loaded[release_id] = overlay.caught_up(self._loaded[release_id], self._ledger())
            self._behind.discard(release_id)
        except overlay.Foreign as error:
            if release_id not in self._loading:
                log.warning("%s: loaded anew", error)
                self._loading[release_id] = self._loaders.submit(self._load_ready, release_id)
            self._behind.add(release_id)
        except ReleaseError as error:
            if release_id not in self._behind:
                log.error("serving without what is new in it: %s", error)
            self._behind.add(release_id)
        return self._loaded[release_id]

    def _take(self, release_id: str, future: "Future[Release]") -> None:
        try:
            self._loaded[release_id] = future.result()
            self._failed.pop(release_id, None)
            log.info("loaded %s", release_id)
        except Exception as error:
            self._failed[release_id] = time.monotonic() + RETRY_LOAD_SECONDS
            self._metrics.load_failures.inc()
            log.error("cannot load %s: %s", release_id, error)

    def _serve(self, pointer: Pointer) -> None:
        """Switches to the pointer's release where it is loaded and is not served yet, after a look at both logs; or to
        the served one with more of its overlay."""
        release, serving = self._loaded.get(pointer.release_id or ""), self._serving()
        if release is not None and serving != release.release_id:
            self._eligibility.catch_up()
            self._switch(self._as_read(self._catch_up(release.release_id)))
        elif pointer.release_id is None and serving is not None:
            self._switch(None)  # the first release ever was taken back
        elif serving is not None:
            self._switch(self._as_read(self._loaded[serving], stand_in=self._stands_in(pointer)))
        elif pointer.release_id in self._failed and pointer.previous in self._loaded:
            self._switch(self._as_read(self._loaded[pointer.previous], stand_in=True))

    def _as_read(self, release: Release, stand_in: bool = False) -> Served:
        return Served(release, stand_in, behind=release.release_id in self._behind)

    def _serving(self) -> str | None:
        return self._served and self._served.release.release_id

    def _stands_in(self, pointer: Pointer) -> bool:
        """What is served is not what the pointer says, and not for the moment of a swap."""
        if self._serving() == pointer.release_id:
            self._agreed_at = time.monotonic()
            return False
        return pointer.release_id in self._failed or time.monotonic() - self._agreed_at > SWITCH_SECONDS

    def _switch(self, served: Served | None) -> None:
        """One assignment; requests in flight hold the release that they began with."""
        if served == self._served:
            return
        self._served = served
        release_id = served.release.release_id if served else None
        self._metrics.serves(release_id)
        log.info("serving %s, overlay %d%s", release_id, served.release.overlay.seq if served else 0,
                 ", in place of the live release" if served and served.stand_in else "")

    def _heartbeat(self) -> None:
        """Says at once what changed, otherwise now and then."""
        serving = self._serving()
        said = (sorted(self._loaded), serving)
        if said != self._said or time.monotonic() - self._said_at >= HEARTBEAT_SECONDS:
            self._ledger().heartbeat(self.replica_id, self._address, said[0], serving, LEASE_SECONDS)
            self._said, self._said_at = said, time.monotonic()

"""What operators watch, in Prometheus' text format at /metrics."""

from collections import Counter as Tally
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from time import perf_counter

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.12, 0.2, 0.4, 1.0, 3.0)


class Metrics:
    """One registry an application, so that two in one process do not mix."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._served: str | None = None
        self.requests = Counter("marquee_requests", "answers", ["route", "status"], registry=self.registry)
        self.latency = Histogram("marquee_request_seconds", "from request to answer", ["route"],
                                 buckets=BUCKETS, registry=self.registry)
        self.stages = Histogram("marquee_stage_seconds", "time of a shelf's stage", ["stage"],
                                buckets=BUCKETS, registry=self.registry)
        self.degraded = Counter("marquee_degraded", "answers with this stage degraded", ["stage"], registry=self.registry)
        self.removed = Counter("marquee_guard_removed", "titles that the guard removed, by the source that named them",
                               ["source", "reason"], registry=self.registry)
        self.empty = Counter("marquee_no_eligible_titles", "answers without any eligible title", registry=self.registry)
        self.release = Gauge("marquee_release_info", "1 for the release that is served, 0 for earlier ones", ["release_id"], registry=self.registry)
        self.switches = Counter("marquee_switches", "changes of the served release", registry=self.registry)
        self.ledger_reachable = Gauge("marquee_ledger_reachable", "1 while the ledger answers", registry=self.registry)
        self.load_failures = Counter("marquee_load_failures", "releases that could not be loaded", registry=self.registry)
        self.eligibility_seq = Gauge("marquee_eligibility_seq", "newest entry of the log that is applied", registry=self.registry)

        self.overlay_seq = Gauge("marquee_overlay_seq", "newest entry of the served release's overlay that is applied", registry=self.registry)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        began = perf_counter()
        try:
            yield
        finally:
            self.stages.labels(name).observe(perf_counter() - began)

    def count_removed(self, sources_and_reasons: Iterable[tuple[str, str]]) -> None:
        """Of source `retrieval` only what the index does not know yet is removed; the other sources filter nothing."""
        for labels, count in Tally(sources_and_reasons).items():
            self.removed.labels(*labels).inc(count)

    def serves(self, release_id: str | None) -> None:
        if release_id == self._served:  # with more of its overlay
            return
        if self._served:
            self.release.labels(self._served).set(0)
        if release_id:
            self.release.labels(release_id).set(1)
        self._served = release_id
        self.switches.inc()

    def text(self) -> bytes:
        return generate_latest(self.registry)

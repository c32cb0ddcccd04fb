"""Following the pointer: preload, swap under load, rollback, overdue probes, a ledger that goes away."""

import shutil
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import count
from threading import Event

import httpx
import numpy as np
import pytest
import uvicorn

from contracts.eligibility import Record
from contracts.overlay import OverlayRecord
from contracts.release import State
from contracts.settings import Settings
from ledger import open_ledger
from ledger.schema import ELIGIBILITY, OVERLAY
from serving.app import Service, create_app
from serving.eligibility import EligibilityLog, extended
from serving.live import SWITCH_SECONDS, Live
from serving.member import Ask
from serving.metrics import Metrics
from serving.pipeline import Clients, shelf
from serving.vectors import Vectors
from tests.serving.doubles import ONE, OTHER, Broken, Given, member
from tests.serving.tiny_world import KEY, NOW, bearer

SOON = timedelta(minutes=5)
THIRD = "2026-03-31-cccccccccc"
"""In the ledger, without files."""


@pytest.fixture
def home(world, tmp_path) -> Settings:
    """A home of its own with both releases and a ledger in which they await approval."""
    settings = Settings(_env_file=None, home=tmp_path, milvus_port=world.settings.milvus_port, token_secret=KEY)
    shutil.copytree(world.settings.releases, settings.releases)
    return settings


@pytest.fixture
def ledger(home, world):
    ledger = open_ledger(home)
    for release_id in (ONE, OTHER, THIRD):
        ledger.begin(release_id, "2026-03-31", "test")
        for state in (State.BUILT, State.JUDGED, State.AWAITING_APPROVAL):
            ledger.move(release_id, state, "test")
    ledger.append_eligibility(world.catalogue.log)
    yield ledger
    ledger.close()


def live_of(home, ledger, vectors) -> Live:
    eligibility = EligibilityLog(lambda: ledger)
    return Live(home, lambda: ledger, eligibility, vectors, Metrics(), "http://here")


def version(ledger) -> int:
    pointer = ledger.pointer()
    return pointer.version if pointer else 0


def make_live(ledger, release_id: str) -> None:
    ledger.propose(release_id, version(ledger))
    ledger.switch(version(ledger), datetime.now(UTC) + SOON)
    ledger.confirm(version(ledger))


def until(condition, seconds: float = 20.0):
    """The condition's value once it is true."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)
    return value


def follow_until(live: Live, condition) -> None:
    until(lambda: (live.follow_once(), condition())[1])


def serving(live: Live) -> str | None:
    return live.current() and live.current().release.release_id


def test_a_candidate_is_loaded_said_and_served_only_after_the_switch(home, ledger, vectors):
    live = live_of(home, ledger, vectors)
    live.follow_once()
    assert live.current() is None
    make_live(ledger, ONE)
    follow_until(live, lambda: serving(live) == ONE)
    ledger.propose(OTHER, version(ledger))
    follow_until(live, lambda: [r.loaded for r in ledger.replicas()] == [[ONE, OTHER]])
    assert serving(live) == ONE
    ledger.switch(version(ledger), datetime.now(UTC) + SOON)
    live.follow_once()
    assert [(r.replica_id, r.serving) for r in ledger.replicas()] == [(live.replica_id, OTHER)]
    ledger.revert(version(ledger))
    live.follow_once()  # the one before is loaded still
    assert serving(live) == ONE


def test_a_consistent_copy_of_other_files_is_not_served(home, ledger, vectors):
    """Approved were other bytes: the folder agrees with itself, not with the ledger."""
    ledger.set_digests(ONE, payload_digest="0" * 64)
    live = live_of(home, ledger, vectors)
    make_live(ledger, ONE)
    follow_until(live, lambda: ONE in live._failed)
    assert (serving(live), [r.loaded for r in ledger.replicas()]) == (None, [[]])


def test_a_switch_reads_the_log_first(home, ledger, vectors, world):
    live = live_of(home, ledger, vectors)
    make_live(ledger, ONE)
    follow_until(live, lambda: serving(live) == ONE)
    ledger.append_eligibility([Record(0, "title", "t000", maturity=18, key="changed")])
    make_live(ledger, OTHER)
    follow_until(live, lambda: serving(live) == OTHER)
    assert live._eligibility.snapshot.seq == ledger.eligibility_head()


def launched(ledger, release_id: str, title_id: str, vector: np.ndarray) -> None:
    """A title lands: in the log, licensed, and in a release's overlay."""
    number = ledger.eligibility_head() + 1
    ledger.append_eligibility([
        Record(0, "title", title_id, maturity=0, key=f"{title_id}-{release_id}", content={"name": f"New {title_id}"}),
        Record(0, "licence", title_id, window_id="w", market="de", key=f"{title_id}-{release_id}-w")])
    ledger.append_overlay(release_id, [OverlayRecord(0, title_id, number, {}, vector)], number)


def test_the_overlay_is_followed_and_each_release_has_its_own(home, ledger, vectors, world):
    """Through a swap and back: at equal numbers the same shelf, and the switch shows no release without its overlay."""
    live, query = live_of(home, ledger, vectors), np.asarray(world.one.vectors_ND[0])
    make_live(ledger, ONE)
    launched(ledger, ONE, "n1", query)
    follow_until(live, lambda: serving(live) == ONE)
    assert live.current().release.overlay.seq == ledger.overlay_head(ONE) > 0
    ledger.propose(OTHER, version(ledger))
    follow_until(live, lambda: [r.loaded for r in ledger.replicas()] == [[ONE, OTHER]])
    launched(ledger, ONE, "n2", query)
    launched(ledger, OTHER, "n2", query)
    follow_until(live, lambda: "n2" in live.current().release.titles.row)

    def shown() -> tuple:
        live._eligibility.catch_up()
        served, snapshot = live.current().release, live._eligibility.snapshot
        made = shelf(Ask("p1", NOW, 20), served, snapshot, Clients(Given(member()), vectors, Metrics()))
        return served.release_id, served.overlay.seq, snapshot.seq, [(p.title_id, p.source, p.score) for p in made.picks]

    before = shown()
    assert {"n1", "n2"} <= {title for title, _, _ in before[3]}
    launched(ledger, OTHER, "n3", query)  # after the last look at its overlay
    ledger.switch(version(ledger), datetime.now(UTC) + SOON)
    live._overlays_read_at = time.monotonic()
    live.follow_once()
    assert (serving(live), live.current().release.overlay.seq) == (OTHER, ledger.overlay_head(OTHER))
    assert "n1" not in live.current().release.titles.row
    ledger.revert(version(ledger))
    live.follow_once()
    after = shown()
    assert after[:2] == before[:2]
    assert after[2] > before[2], "n3 was licensed since, which this release knows nothing of"
    assert after[3] == before[3]


def test_a_licence_closed_since_stays_closed_through_a_roll_back_and_comes_back_when_reopened(home, ledger, vectors):
    live = live_of(home, ledger, vectors)
    make_live(ledger, ONE)
    follow_until(live, lambda: serving(live) == ONE)

    def shown() -> list[str]:
        live._eligibility.catch_up()
        made = shelf(Ask("p1", NOW, 20), live.current().release, live._eligibility.snapshot, Clients(Given(member()), vectors, Metrics()))
        return [pick.title_id for pick in made.picks]

    title, *_ = before = shown()
    make_live(ledger, OTHER)
    follow_until(live, lambda: serving(live) == OTHER)
    windows = live._eligibility.snapshot.windows[title, "de"]
    ledger.append_eligibility([Record(0, "licence", title, window_id=window, market="de", revoked=True, key=f"closed-{window}")
                               for window in windows])
    make_live(ledger, ONE)  # the earlier release returns, whose collection still says that it may be shown
    follow_until(live, lambda: serving(live) == ONE)
    assert title not in shown()
    ledger.append_eligibility([Record(0, "licence", title, window_id="again", market="de", key="reopened")])
    assert shown() == before


def test_an_overdue_probe_is_taken_back(home, ledger, vectors):
    live = live_of(home, ledger, vectors)
    make_live(ledger, ONE)
    ledger.propose(OTHER, version(ledger))
    ledger.switch(version(ledger), datetime.now(UTC) - timedelta(seconds=1))
    follow_until(live, lambda: serving(live) == ONE)
    assert (ledger.pointer().release_id, ledger.pointer().phase) == (ONE, "live")
    assert ledger.get(OTHER).state == State.ROLLED_BACK
    assert "did not end" in ledger.transitions(OTHER)[-1].reason


def test_a_broken_candidate_is_never_loaded_and_the_live_one_stays(home, ledger, vectors):
    live = live_of(home, ledger, vectors)
    make_live(ledger, ONE)
    follow_until(live, lambda: serving(live) == ONE)
    with (home.releases / OTHER / "titles.parquet").open("ab") as file:
        file.write(b"x")
    ledger.propose(OTHER, version(ledger))
    follow_until(live, lambda: OTHER in live._failed)
    assert ledger.replicas()[0].loaded == [ONE]
    ledger.switch(version(ledger), datetime.now(UTC) + SOON)
    live.follow_once()
    assert (serving(live), live.current().stand_in) == (ONE, True), "and says that it is not live"


def test_a_replica_that_misses_two_swaps_says_so_and_follows_its_overlay(home, ledger, vectors, world, monkeypatch):
    monkeypatch.setattr("serving.live.GRACE_SECONDS", 0.001)
    monkeypatch.setattr("serving.live.OVERLAY_SECONDS", 0.0)
    live = live_of(home, ledger, vectors)
    make_live(ledger, ONE)
    follow_until(live, lambda: serving(live) == ONE)
    live.follow_once()
    assert not live.current().stand_in
    load, missing = live._load, []
    monkeypatch.setattr(live, "_load", lambda path: missing.append(path) or load(home.releases / "nowhere"))
    for release_id in (OTHER, THIRD):
        make_live(ledger, release_id)
    live._agreed_at = time.monotonic()
    live._loaders.submit(time.sleep, 0.5)  # it is being loaded: the moment of a swap
    live.follow_once()
    assert not live.current().stand_in
    live._agreed_at -= SWITCH_SECONDS + 1
    live.follow_once()
    assert live.current().stand_in, "it takes too long"
    follow_until(live, lambda: missing and THIRD in live._failed)
    live._agreed_at = time.monotonic()
    live.follow_once()
    assert live.current().stand_in, "it cannot be loaded"
    launched(ledger, ONE, "n1", np.asarray(world.one.vectors_ND[0]))
    live.follow_once()
    assert (serving(live), ledger.replicas()[0].loaded) == (ONE, [ONE])
    assert live.current().release.overlay.seq == ledger.overlay_head(ONE) > 0
    live._load, live._failed = load, {}
    make_live(ledger, OTHER)
    follow_until(live, lambda: serving(live) == OTHER)
    assert not live.current().stand_in


def test_a_fresh_replica_serves_the_one_before_where_the_live_one_is_damaged(home, ledger, vectors):
    make_live(ledger, ONE)
    make_live(ledger, OTHER)
    (home.releases / OTHER / "item_vectors.npy").unlink()
    live = live_of(home, ledger, vectors)
    follow_until(live, lambda: serving(live) == ONE)
    assert live.current().stand_in
    assert ledger.replicas()[0].serving == ONE


def test_serving_goes_on_without_the_ledger(home, ledger, vectors):
    reachable = Event()
    reachable.set()
    live = live_of(home, ledger, vectors)
    live._ledger = live._eligibility._ledger = lambda: ledger if reachable.is_set() else Broken()
    make_live(ledger, ONE)
    live._eligibility.start()
    live.start()
    try:
        until(lambda: serving(live) == ONE)
        reachable.clear()
        until(lambda: "marquee_ledger_reachable 0.0" in live._metrics.text().decode())
        assert serving(live) == ONE
        reachable.set()
        make_live(ledger, OTHER)
        until(lambda: serving(live) == OTHER)
    finally:
        live.stop()
        live._eligibility.stop()
    assert ledger.replicas() == []  # gave its lease back


def test_snapshots_of_the_log_do_not_change_under_a_request(world):
    eligibility = EligibilityLog(lambda: world.ledger)
    eligibility.catch_up()
    before = eligibility.snapshot
    record = next(r for r in world.catalogue.log if r.kind == "licence")
    spans = dict(before.windows[record.title_id, record.market])
    closed = Record(before.seq + 1, "licence", record.title_id, window_id=record.window_id, market=record.market, revoked=True)
    after = extended(before, [closed])
    assert before.windows[record.title_id, record.market] == spans
    assert record.window_id not in after.windows[record.title_id, record.market]
    expected = world.catalogue.eligibility()
    expected.apply([closed])
    assert (after.maturity, after.windows, after.seq) == (expected.maturity, expected.windows, expected.seq)


@contextmanager
def served(app):
    """The application on a loopback port, in a thread."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error"))
    with ThreadPoolExecutor(1) as runner:
        done = runner.submit(server.run)
        until(lambda: server.started or done.done())
        try:
            yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
        finally:
            server.should_exit = True


def test_swap_under_load_loses_no_request_and_mixes_no_releases(home, ledger, world):
    """Clients ask while the pointer moves to and fro; every answer's scores are those of the one release it names."""
    who, moments = member(titles=("t003", "t010", "t011")), [NOW, NOW + timedelta(hours=7)]
    eligibility = EligibilityLog(lambda: ledger)
    metrics, vectors = Metrics(), Vectors(home, budget_seconds=5.0)  # its own: the application closes it
    live = Live(home, lambda: ledger, eligibility, vectors, metrics, "http://here")
    tick = count()
    clients = Clients(Given(who), vectors, metrics)
    service = Service(live, eligibility, clients, lambda: moments[next(tick) % 2], KEY)
    make_live(ledger, ONE)
    stop, headers = Event(), bearer(["p1"])

    def client(_: int) -> list[dict]:
        answers = []
        with httpx.Client(base_url=address, headers=headers, trust_env=False) as http:
            while not stop.is_set():
                response = http.get("/v1/profiles/p1/shelf?size=15")
                assert response.status_code == 200, response.text
                answers.append(response.json())
        return answers

    with served(create_app(service)) as address:
        until(lambda: httpx.get(f"{address}/readyz", trust_env=False).status_code == 200)
        with ThreadPoolExecutor(4) as pool:
            running = [pool.submit(client, i) for i in range(4)]
            for release_id in (OTHER, ONE, OTHER):
                time.sleep(0.7)
                ledger.propose(release_id, version(ledger))
                until(lambda name=release_id: any(name in r.loaded for r in ledger.replicas()))
                ledger.switch(version(ledger), datetime.now(UTC) + SOON)
                until(lambda name=release_id: [r.serving for r in ledger.replicas()] == [name])
                ledger.confirm(version(ledger))
            time.sleep(0.7)
            stop.set()
            answers = [answer for future in running for answer in future.result()]

    counts = Counter(answer["release_id"] for answer in answers)
    assert set(counts) == {ONE, OTHER}, counts
    assert min(counts.values()) > 10, counts
    assert [a["degraded"] for a in answers if a["degraded"]] == []
    exact = Clients(Given(who), Broken(), Metrics())
    expected = {
        (release.release_id, moment.isoformat()): {
            p.title_id: (p.score, p.retrieval_score) for p in shelf(
                Ask("p1", moment, 15, market="de", token_limit=18), release, eligibility.snapshot, exact).picks}
        for release in (world.one, world.other) for moment in moments
    }
    for answer in answers:
        moment = datetime.fromisoformat(answer["generated_at"]).isoformat()
        alone = expected[answer["release_id"], moment]
        assert {t["title_id"] for t in answer["titles"]} == set(alone)
        for title in answer["titles"]:
            np.testing.assert_array_equal((title["score"], title["retrieval_score"]), alone[title["title_id"]])


def test_a_release_that_nobody_wants_stays_for_the_requests_on_it(home, ledger, vectors, monkeypatch):
    """As long as a replica reports it, garbage collection leaves it alone."""
    monkeypatch.setattr("serving.live.GRACE_SECONDS", 3600.0)
    live = live_of(home, ledger, vectors)
    make_live(ledger, ONE)
    follow_until(live, lambda: serving(live) == ONE)
    ledger.propose(OTHER, version(ledger))
    follow_until(live, lambda: [r.loaded for r in ledger.replicas()] == [[ONE, OTHER]])
    ledger.withdraw(version(ledger))
    ledger.move(OTHER, State.REJECTED, "test")
    follow_until(live, lambda: True)
    assert ledger.replicas()[0].loaded == [ONE, OTHER]
    assert not ledger.collect(OTHER, "test", "old")
    monkeypatch.setattr(live, "_wanted_until", dict.fromkeys((ONE, OTHER), 0.0))
    follow_until(live, lambda: ledger.replicas()[0].loaded == [ONE])
    assert ledger.collect(OTHER, "test", "old")


def test_a_record_that_does_not_fit_holds_neither_the_release_up_nor_another(home, ledger, vectors, world):
    live, query = live_of(home, ledger, vectors), np.asarray(world.one.vectors_ND[0])
    make_live(ledger, OTHER)
    make_live(ledger, ONE)
    follow_until(live, lambda: [r.loaded for r in ledger.replicas()] == [[ONE, OTHER]])
    assert not live.current().behind
    launched(ledger, OTHER, "n1", query[:-1])
    launched(ledger, ONE, "n1", query)
    follow_until(live, lambda: "n1" in live.current().release.titles.row)
    assert [(r.loaded, r.serving) for r in ledger.replicas()] == [([ONE, OTHER], ONE)]
    assert not live.current().behind, "what is wrong with one overlay is not said of the other"
    ledger.propose(OTHER, version(ledger))
    ledger.switch(version(ledger), datetime.now(UTC) + SOON)
    live.follow_once()
    assert (serving(live), live.current().behind) == (OTHER, True), "without the title, and says so"


def test_a_ledger_that_was_put_back_from_a_copy_is_read_anew(home, ledger, vectors, world):
    """Numbers are given again: what follows them alone would miss a closure, and keep a title that never was."""
    live, query = live_of(home, ledger, vectors), np.asarray(world.one.vectors_ND[0])
    make_live(ledger, ONE)
    shutil.copytree(home.home, home.home / "copy", ignore=shutil.ignore_patterns("copy", "releases"))
    launched(ledger, ONE, "lost", query)
    launched(ledger, ONE, "gone", query)
    follow_until(live, lambda: serving(live) == ONE)
    live._eligibility.catch_up()
    assert live._eligibility.snapshot.why_not("lost", "de", 18, int(NOW.timestamp())) is None
    with ledger.engine.begin() as connection:  # what putting a copy back amounts to
        connection.execute(OVERLAY.delete())
        connection.execute(ELIGIBILITY.delete().where(ELIGIBILITY.c.title_id.in_(["lost", "gone"])))
        connection.exec_driver_sql("DELETE FROM sqlite_sequence")
    launched(ledger, ONE, "other", query)
    launched(ledger, ONE, "more", query)
    live._catch_up(ONE)
    live._serve(ledger.pointer())
    assert live.current().behind, "until it is loaded anew"
    live._eligibility.catch_up()
    snapshot = live._eligibility.snapshot
    assert (snapshot.seq, "lost" in snapshot.maturity, "other" in snapshot.maturity) == (ledger.eligibility_head(), False, True)
    follow_until(live, lambda: "more" in live.current().release.titles.row and not live.current().behind)
    assert "lost" not in live.current().release.titles.row

"""What arrives after a build, beside every release that serves or may: by its own tower, once, in order, none forgotten."""

import json
import shutil
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from contracts import clock
from contracts import release as names
from contracts.content import Content
from contracts.errors import MarqueeError
from contracts.landing import FORMAT_VERSION, MARKER
from contracts.release import State
from contracts.settings import Settings
from jobs.embed import Embedder
from jobs.release import launches, overlay
from ledger import open_ledger
from tests.serving.tiny_world import NOW, Catalogue, build_release

LIVE, BEFORE, NEXT, OLD = "2026-03-31-live", "2026-03-30-before", "2026-04-01-next", "2026-03-01-old"
AT = "2026-04-01T11:00:00Z"


def catalogue_of() -> Catalogue:
    """The tiny one, with a title that is licensed now and, after a gap, again."""
    catalogue, at, day = Catalogue(60, seed=3), int(NOW.timestamp()), 86400
    title = next(t for t in catalogue.ids if (t, "de") not in catalogue.eligibility().windows)
    catalogue._add("licence", title, window_id="now", market="de", opens_at=at - day, closes_at=at + day)
    catalogue._add("licence", title, window_id="later", market="de", opens_at=at + 9 * day)
    return catalogue


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Settings:
    """A home with four releases of one catalogue."""
    settings = Settings(_env_file=None, home=tmp_path_factory.mktemp("overlay"))
    for seed, release in enumerate((LIVE, BEFORE, NEXT, OLD)):
        build_release(settings, catalogue_of(), release, seed, vectors=False)
    return settings


@pytest.fixture
def catalogue() -> Catalogue:
    return catalogue_of()


@pytest.fixture
def settings(built, tmp_path) -> Settings:
    home = Settings(_env_file=None, home=tmp_path)
    home.releases.symlink_to(built.releases)
    clock.set_now(home.home, NOW)
    return home


@pytest.fixture
def ledger(settings, catalogue):
    """LIVE is live, BEFORE was, OLD before that; NEXT awaits its answer; all know the whole catalogue."""
    ledger = open_ledger(settings)
    ledger.append_eligibility(catalogue.log)
    for release in (OLD, BEFORE, LIVE, NEXT):
        ledger.begin(release, release[:10], "test")
        for state in (State.BUILT, State.JUDGED, State.AWAITING_APPROVAL):
            ledger.move(release, state, "test")
        if release != NEXT:
            ledger.propose(release, ledger.pointer().version if ledger.pointer() else 0)
            ledger.switch(ledger.pointer().version, datetime.now(UTC) + timedelta(minutes=5))
            ledger.confirm(ledger.pointer().version)
    yield ledger
    ledger.close()


def version(number: int, title_id: str, at: str = AT, **more) -> dict:
    return {"event_id": f"v{number}", "event_time": at, "received_at": at, "title_id": title_id, "valid_from": at,
            "name": f"Name {number}", "genres": ["crime"], "maturity": 7, **more}


def window(number: int, title_id: str, market: str = "de", at: str = AT, **more) -> dict:
    return {"event_id": f"w{number}", "event_time": at, "received_at": at, "title_id": title_id, "window_id": f"w{number}",
            "market": market, "opens_at": at, **more}


def land(settings, name: str, titles=(), licences=()) -> None:
    folder = settings.landing / name
    folder.mkdir(parents=True)
    for table, rows in (("titles", titles), ("licences", licences)):
        (folder / f"{table}.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    (folder / MARKER).write_text(json.dumps({"format_version": FORMAT_VERSION, "tables": {}}))


def embedded(settings, release: str, content: dict, id_index: int = 0) -> np.ndarray:
    embedder = Embedder(settings.releases / release / names.ITEM_TOWER)
    return embedder.embed([Content.of({"title_id": "x", **content})], np.array([id_index]), 1)[0]


def test_what_a_build_knows_is_not_in_its_overlay_but_what_its_collection_cannot_find_is(settings, ledger, catalogue):
    """A second window that opens after the first has closed: the collection knows one of them."""
    launches.run(settings)
    at, state = int(NOW.timestamp()), catalogue.eligibility()
    several = {title for (title, market) in state.windows if len(state.spans(title, market, at)) > 1}
    assert several
    assert {r.title_id for r in ledger.overlay_since(LIVE, 0)} == several
    vectors = np.load(settings.releases / LIVE / names.ITEM_VECTORS)
    for record in ledger.overlay_since(LIVE, 0):
        np.testing.assert_array_equal(record.vector_D, vectors[catalogue.ids.index(record.title_id)])


def test_a_title_that_lands_is_embedded_by_each_kept_releases_own_tower_once(settings, ledger):
    launches.run(settings)
    heads = {release: ledger.overlay_head(release) for release in (LIVE, BEFORE, NEXT)}
    land(settings, "2026-04-01", [version(1, "n1", synopsis="a harbour at night")], [window(1, "n1")])
    assert launches.run(settings)["overlay"] == dict.fromkeys((BEFORE, LIVE, NEXT), 1)
    vectors = []
    for release, head in heads.items():
        (record,) = ledger.overlay_since(release, head)
        assert (record.title_id, record.content["name"], record.content["synopsis"]) == ("n1", "Name 1", "a harbour at night")
        np.testing.assert_allclose(record.vector_D, embedded(settings, release, record.content), atol=1e-6)
        vectors.append(record.vector_D)
    assert not np.allclose(vectors[0], vectors[1]), "each tower has its own space"
    assert ledger.overlay_since(OLD, 0) == [], "nobody returns to it without being told: see catch_up"
    assert launches.run(settings)["overlay"] == {}
    assert overlay.catch_up(settings, ledger, OLD) > 0, "a roll-back to it brings it up first"
    assert ledger.overlay_since(OLD, 0)[-1].title_id == "n1"


def test_a_changed_title_keeps_its_id_embedding_and_a_changed_maturity_is_a_change(settings, ledger, catalogue):
    launches.run(settings)
    head = ledger.overlay_head(LIVE)
    same = json.loads(json.dumps(catalogue.content(3) | {"launched_at": catalogue.launched[3].isoformat()}))
    stays = json.loads(json.dumps(catalogue.content(5) | {"launched_at": catalogue.launched[5].isoformat()}))
    land(settings, "2026-04-01", [version(1, "t003") | same | {"maturity": 12, "name": "Renamed"}, version(2, "t005") | stays])
    launches.run(settings)
    (record,) = ledger.overlay_since(LIVE, head)
    assert (record.title_id, record.content["maturity"]) == ("t003", 12)
    np.testing.assert_allclose(record.vector_D, embedded(settings, LIVE, record.content, id_index=4), atol=1e-6)


def test_a_title_licensed_anew_enters_and_one_closed_early_need_not(settings, ledger, catalogue):
    launches.run(settings)
    head, at, state = ledger.overlay_head(LIVE), int(NOW.timestamp()), catalogue.eligibility()
    inside = {r.title_id for r in ledger.overlay_since(LIVE, 0)}
    never = next(t for t in catalogue.ids if t not in inside and not state.spans(t, "de", at))
    open_now = next(t for t in catalogue.ids if t not in inside and state.why_not(t, "de", 18, at) is None)
    early = next(r for r in catalogue.log if r.kind == "licence" and (r.title_id, r.market) == (open_now, "de"))
    land(settings, "2026-04-01", [], [window(1, never), window(2, open_now, closes_at=AT) | {"window_id": early.window_id}])
    launches.run(settings)
    assert [r.title_id for r in ledger.overlay_since(LIVE, head)] == [never]


def test_late_and_malformed_versions_get_no_vector(settings, ledger):
    land(settings, "2026-03-30", [version(1, "n1", at="2026-03-30T10:00:00Z")], [window(1, "n1")])
    launches.run(settings)
    head = ledger.overlay_head(LIVE)
    land(settings, "2026-03-31..2026-04-01", [version(2, "n1", at="2026-03-29T10:00:00Z"), version(3, "n2", year=12), version(4, "n3", genres="crime"),
                                  version(5, "n4", launched_at="soon"), version(6, "n5", name=None), version(7, "n6", maturity=99)])
    assert launches.run(settings)["malformed"] == 1
    assert ledger.overlay_since(LIVE, head) == []
    known = {r.title_id: r.maturity for r in ledger.eligibility_since(0)}
    assert (known["n2"], known["n6"]) == (7, None), "its maturity holds all the same, where it can be read"
    land(settings, "2026-04-02", [version(8, "n2")])
    launches.run(settings)
    assert [r.title_id for r in ledger.overlay_since(LIVE, head)] == ["n2"], "mended by a later version"


def test_several_versions_at_once_leave_the_newest(settings, ledger):
    hours = ("09", "11", "10")
    land(settings, "2026-04-01", [version(i, "n1", at=f"2026-04-01T{hour}:00:00Z") for i, hour in enumerate(hours)], [window(1, "n1")])
    launches.run(settings)
    assert [r.content["name"] for r in ledger.overlay_since(LIVE, 0) if r.title_id == "n1"] == ["Name 1"]


def test_a_kill_between_log_and_overlay_loses_nothing(settings, ledger, monkeypatch):
    launches.run(settings)
    land(settings, "2026-04-01", [version(1, "n1")], [window(1, "n1")])
    with monkeypatch.context() as patched:
        patched.setattr(overlay, "catch_up_all", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            launches.run(settings)
    assert launches.run(settings)["overlay"] == dict.fromkeys((BEFORE, LIVE, NEXT), 1)


def test_one_release_that_cannot_be_brought_up_does_not_hold_the_others_or_the_log(settings, ledger, built):
    settings.releases.unlink()
    settings.releases.mkdir()
    for release in (LIVE, BEFORE):
        (settings.releases / release).symlink_to(built.releases / release)
    land(settings, "2026-04-01", [version(1, "n1")], [window(1, "n1")])
    with pytest.raises(MarqueeError, match=f"the overlay is not complete: {NEXT}: no release"):
        launches.run(settings)
    assert ledger.overlay_since(LIVE, 0)[-1].title_id == ledger.overlay_since(BEFORE, 0)[-1].title_id == "n1"
    assert ledger.overlay_through(LIVE) == ledger.eligibility_head() > ledger.overlay_through(NEXT)


def test_vectors_that_are_not_what_was_sealed_are_not_read(settings, ledger, built, catalogue):
    settings.releases.unlink()
    shutil.copytree(built.releases, settings.releases)
    path = settings.releases / NEXT / names.ITEM_VECTORS
    np.save(path, np.load(path)[::-1])
    land(settings, "2026-04-01", [], [window(1, catalogue.ids[0], market="xx")])
    with pytest.raises(MarqueeError, match=f"{NEXT} is torn: {names.ITEM_VECTORS}"):
        launches.run(settings)
    assert (ledger.overlay_head(NEXT), ledger.overlay_through(LIVE)) == (0, ledger.eligibility_head())

"""`marquee index` on a real little lake, a trained item tower and a real Milvus."""

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from contracts import release as names
from contracts.errors import UsageError
from contracts.neighbours import NeighbourTable
from jobs.index import build
from jobs.index.config import IndexConfig
from tests.jobs.towers import little_lake
from tests.jobs.towers.little_lake import LATE, RELEASE, TITLES, UNKNOWN_MATURITY, UNSEEN

CONFIG = IndexConfig(checked_searches=8, search_size=20)
FILES = (names.ITEM_VECTORS, names.TITLES, names.TRANSITIONS, names.COWATCH, names.FALLBACK)


@pytest.fixture(scope="module")
def home(towers_home):
    return towers_home[0]


@pytest.fixture(scope="module")
def result(home):
    return build.run(home, RELEASE, CONFIG)


def rows(home, name: str):
    return pq.read_table(home.releases / RELEASE / name)


def test_every_title_known_tonight_has_a_row_and_a_vector(home, result):
    titles = rows(home, names.TITLES)
    ids = titles["title_id"].to_pylist()
    vectors = np.load(home.releases / RELEASE / names.ITEM_VECTORS)
    assert ids == sorted(ids)
    assert len(ids) == TITLES + 2 == result["titles"]
    assert vectors.shape == (len(ids), 16)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-4)
    by_id = {row["title_id"]: row for row in titles.to_pylist()}
    assert by_id[UNSEEN]["id_index"] == by_id[LATE]["id_index"] == 0
    assert sorted(row["id_index"] for row in by_id.values() if row["id_index"]) == list(range(1, result["id_titles"] + 1))
    assert by_id["t03"]["name"] == "Title 3, restored"
    assert by_id["t04"]["name"] == "Title 4", "not known tonight"
    assert by_id["t03"]["plays_7d"] == 19, "counts end with the counts day, 2026-03-20"
    assert by_id[UNSEEN]["plays_7d"] is None


def test_transitions_know_nothing_of_what_came_later(home, result):
    table = rows(home, names.TRANSITIONS)
    assert result["transitions"] == len(table) > 100
    assert LATE not in {*table["from_title"].to_pylist(), *table["to_title"].to_pylist()}
    followed = NeighbourTable.from_arrays(*(table[name].to_pylist() for name in table.column_names))
    assert followed.neighbours("t01")[0][0] == "t05", "the next title of the same taste"


def test_cowatch_knows_nothing_of_what_came_later(home, result):
    table = rows(home, names.COWATCH)
    assert result["cowatch"] == len(table) > 100
    assert LATE not in {*table["from_title"].to_pylist(), *table["to_title"].to_pylist()}


def test_fallback_orders_are_whole_and_know_nothing_of_what_came_later(home, result):
    table = rows(home, names.FALLBACK)
    general = table.filter(pc.and_(pc.equal(table["market"], "AA"), pc.equal(table["cohort"], "general"))).to_pylist()
    assert [row["rank"] for row in general] == list(range(1, len(general) + 1))
    licensed = {row["title_id"] for row in little_lake.licences() if row["market"] == "AA"}
    assert {row["title_id"] for row in general} == licensed
    assert {row["title_id"] for row in general if not row["score"]} >= {LATE, UNSEEN}
    assert general[-1]["score"] == 0
    unseen = [row["title_id"] for row in general if not row["score"]]
    assert unseen[0] == UNSEEN, "newest launch first"
    kids = table.filter(pc.equal(table["cohort"], "kids"))["title_id"].to_pylist()
    assert kids
    assert UNKNOWN_MATURITY not in kids
    young = {row["title_id"] for row in little_lake.titles() if row["maturity"] is not None and row["maturity"] <= 7}
    assert set(kids) <= young


def test_the_collection_was_proven_and_a_rerun_changes_nothing(home, result):
    assert result["collection"] == "titles_2026_03_22_0123456789"
    assert result["checked"]["titles"] == TITLES + 2
    assert result["checked"]["returned"] > 50
    assert result["markets"] == ["AA", "BB"]
    before = {name: (home.releases / RELEASE / name).read_bytes() for name in FILES}
    again = build.run(home, RELEASE, CONFIG)
    assert again["collection_kept"]
    assert {name: (home.releases / RELEASE / name).read_bytes() for name in FILES} == before
    assert not [file.name for file in (home.releases / RELEASE).iterdir() if file.name.startswith(".")]


def test_who_uses_a_release_is_asked_of_the_ledger(home, result):
    from ledger import open_ledger

    assert build.users_of(home, RELEASE) == []
    open_ledger(home).heartbeat("r1", "http://127.0.0.1:9", [RELEASE], None)
    assert build.users_of(home, RELEASE) == ["replica r1"]


def test_a_release_without_towers_is_wrong_use(home, tmp_path):
    with pytest.raises(UsageError, match="run `marquee release begin"):
        build.run(home, "2026-03-22-nothing", CONFIG)
    other = home.releases / "2026-03-22-towerless"
    other.mkdir()
    (other / names.PROVENANCE).write_bytes((home.releases / RELEASE / names.PROVENANCE).read_bytes())
    with pytest.raises(UsageError, match="run `marquee towers --release 2026-03-22-towerless`"):
        build.run(home, other.name, CONFIG)


def test_on_the_nano_world_every_title_is_indexed_and_a_rerun_changes_nothing(nano):
    said = nano.reach("index").done["index"]
    folder = nano.home / "releases" / nano.release_id
    assert said["titles"] == said["checked"]["titles"] == len(pq.read_table(folder / names.TITLES))
    assert said["checked"]["recall"] >= 0.99
    before = {name: (folder / name).read_bytes() for name in FILES}
    assert nano.result("index", "--release", nano.release_id)["collection_kept"]
    assert {name: (folder / name).read_bytes() for name in FILES} == before

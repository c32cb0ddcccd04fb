"""The collection on a real Milvus Lite server: what is right passes, each planted mistake is found."""

from dataclasses import replace

import numpy as np
import pytest
from pymilvus import MilvusClient

from contracts.eligibility import FAR, NEVER_MATURITY, Eligibility, Record
from contracts.errors import MarqueeError
from contracts.release import market_groups
from contracts.settings import Settings
from jobs.index import collection
from jobs.index.build import load_all, load_checked
from jobs.index.config import IndexConfig

AT = 1_800_000_000
DAY = 86400
ODD = ["it's \"quoted\"", "a'b' or '1'='1", "%2F..\\x", "two\nlines\t", "\x01", "{ids}", "ö" * 200]
CONFIG = IndexConfig(insert_batch=64, checked_searches=16, search_size=50)


def made_up(titles: int = 300) -> tuple[collection.Rows, Eligibility]:
    """Two markets; windows that are open, over, to come or absent; some titles without maturity."""
    random = np.random.default_rng(0)
    ids = [*(f"t{i:04}" for i in range(titles - len(ODD))), *ODD]
    records = [Record(0, "title", t, maturity=[0, 7, 13, 18, None][i % 5]) for i, t in enumerate(ids)]
    spans = [(AT - 9 * DAY, FAR), (AT - 9 * DAY, AT - DAY), (AT + DAY, AT + 9 * DAY), None]
    for i, title in enumerate(ids):
        for market in ("AA", "BB"):
            span = spans[int(random.integers(4))]
            if span:
                records.append(Record(0, "licence", title, window_id=f"w{i}{market}", market=market, opens_at=span[0], closes_at=span[1]))
    state = Eligibility()
    state.apply(replace(record, seq=seq) for seq, record in enumerate(records, 1))
    vectors = random.normal(size=(titles, 16)).astype(np.float32)
    return collection.collection_rows(ids, vectors / np.linalg.norm(vectors, axis=1, keepdims=True), state, AT), state


@pytest.fixture(scope="module")
def client(milvus_port):
    client = collection.connect(Settings(_env_file=None, milvus_port=milvus_port))
    yield client
    client.close()


@pytest.fixture
def name(request, client):
    name = f"titles_{request.node.name.split('[')[0]}"
    yield name
    for alias in client.list_aliases(collection_name=name)["aliases"] if client.has_collection(name) else ():
        client.drop_alias(alias)
    client.drop_collection(name)


def test_fields_say_what_the_log_says():
    rows, state = made_up()
    for i, title in enumerate(rows.title_ids):
        assert rows.scalars["maturity"][i] == (NEVER_MATURITY if state.maturity[title] is None else state.maturity[title])
        span = state.window(title, "AA", AT)
        assert (rows.scalars["opens_AA"][i], rows.scalars["closes_AA"][i]) == (span or (FAR, 0))


def test_a_right_collection_passes_and_a_rerun_keeps_it(client, name):
    rows, state = made_up()
    checked, kept = load_checked(client, name, rows, state, AT, CONFIG)
    assert not kept
    assert (checked.titles, checked.vectors, checked.searches) == (300, 200, 16)
    assert checked.returned > 100
    assert checked.recall >= 0.99
    before = client.describe_collection(name)["collection_id"]
    again, kept = load_checked(client, name, rows, state, AT, CONFIG)
    assert kept
    assert again == checked
    assert client.describe_collection(name)["collection_id"] == before


def test_what_must_not_be_shown_is_never_returned(client, name):
    """Every title, closest first: only those with a known low maturity and an open window come back."""
    rows, state = made_up()
    load_checked(client, name, rows, state, AT, CONFIG)
    from contracts.eligibility import search_filter

    for market in ("AA", "BB"):
        for limit in (0, 7, 18):
            hits = client.search(name, [rows.vectors_TD[0].tolist()], filter=search_filter(market, limit, AT), limit=300,
                                 search_params={"metric_type": "IP"})[0]
            found = {hit["title_id"] for hit in hits}
            assert found
            assert found == {t for t in rows.title_ids if state.why_not(t, market, limit, AT) is None}


def plant(client: MilvusClient, name: str, rows: collection.Rows, i: int, **changes) -> None:
    client.upsert(name, [{**collection._row(rows, i), **changes}])
    client.flush(name)


@pytest.mark.parametrize(("what", "message"), [
    ("vector", "the vector of t0003 is not the release's"),
    ("maturity", "maturity of t0003 is 0, should be 18"),
    ("window", "closes_AA of t0003"),
    ("missing", "has 299 titles, the release has 300"),
])
def test_a_planted_mistake_is_found_and_not_served_over(client, name, what, message):
    """A live collection that is wrong is reported, not dropped; one that is not live is made anew."""
    rows, state = made_up()
    config = replace(CONFIG, checked_vectors=300)
    load_checked(client, name, rows, state, AT, config)
    changes = {"vector": {"vector": rows.vectors_TD[4].tolist()}, "maturity": {"maturity": 0}, "window": {"closes_AA": FAR + 1}}
    if what == "missing":
        client.delete(name, ids=["t0003"])
        client.flush(name)
    else:
        plant(client, name, rows, 3, **changes[what])
    from jobs.index.check import check

    with pytest.raises(MarqueeError, match=message):
        check(client, name, rows, state, AT, seed=7, vectors=300, searches=4, size=50, minimum_recall=0.99)
    client.create_alias(name, f"live_{what}")
    with pytest.raises(MarqueeError, match=f"in use by alias live_{what}: not replaced"):
        load_checked(client, name, rows, state, AT, config)
    client.drop_alias(f"live_{what}")
    with pytest.raises(MarqueeError, match="in use by the control pointer: not replaced"):
        load_checked(client, name, rows, state, AT, config, ["the control pointer"])
    assert load_checked(client, name, rows, state, AT, config)[1] is False


def test_an_ineligible_title_that_search_returns_is_found(client, name):
    """Fields and file agree with each other, but not with the log."""
    rows, state = made_up()
    wide = replace(rows, scalars={**rows.scalars, "maturity": np.zeros_like(rows.scalars["maturity"])})
    with pytest.raises(MarqueeError, match=r"returned t\d+: (above|unknown)_maturity"):
        load_checked(client, name, wide, state, AT, CONFIG)


def test_no_open_window_anywhere_is_said(client, name):
    rows, state = made_up(20)
    shut = {f: np.zeros_like(v) if f.startswith("closes") else v for f, v in rows.scalars.items()}
    with pytest.raises(MarqueeError, match="no licence window is open"):
        load_all(client, name, replace(rows, scalars=shut), state, AT, CONFIG)


def test_no_milvus_says_so():
    with pytest.raises(MarqueeError, match=r"no Milvus answers at http://127\.0\.0\.1:1:"):
        collection.connect(Settings(_env_file=None, milvus_port=1))


def test_forty_markets_take_collections_by_group(client, name):
    """Every market is searched in its group's collection, and nobody else's windows matter there."""
    from contracts.eligibility import search_filter

    markets = [f"M{i:02}" for i in range(40)]
    ids = [f"t{i:03}" for i in range(80)]
    records = [Record(i, "title", title, maturity=7) for i, title in enumerate(ids, 1)]
    records += [Record(100 + i, "licence", title, window_id=title, market=markets[i % 40], opens_at=0) for i, title in enumerate(ids)]
    state = Eligibility()
    state.apply(records)
    random = np.random.default_rng(0)
    rows = collection.collection_rows(ids, random.normal(size=(80, 16)).astype(np.float32), state, AT)
    checked, kept = load_all(client, name, rows, state, AT, CONFIG)
    try:
        assert (checked.titles, checked.searches, kept) == (80, 32, False)
        groups = market_groups(name, markets)
        assert [len(group) for group in groups.values()] == [30, 10]
        for group, its_markets in groups.items():
            assert len(client.describe_collection(group)["fields"]) == 3 + 2 * len(its_markets) <= 64
            for market in its_markets:
                hits = client.search(group, [rows.vectors_TD[0].tolist()], filter=search_filter(market, 18, AT), limit=80,
                                     output_fields=["title_id"])[0]
                assert {hit["title_id"] for hit in hits} == {t for i, t in enumerate(ids) if markets[i % 40] == market}
        assert load_all(client, name, rows, state, AT, CONFIG)[1] is True
    finally:
        client.drop_collection(f"{name}_2")

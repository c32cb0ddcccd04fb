"""Identity and digests: canonical, stable, and sensitive to every byte they cover."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.release import (
    FileEntry,
    RankerSpec,
    ReleaseSpec,
    canonical,
    collection_name,
    digest,
    evidence_digest,
    file_entry,
    market_groups,
    payload_digest,
    release_id,
)

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3), max_leaves=8)
ENTRIES = st.builds(FileEntry, size=st.integers(0, 2**40), sha256=st.text("0123456789abcdef", min_size=64, max_size=64))
FILES = st.dictionaries(st.text(min_size=1, max_size=12), ENTRIES, min_size=1, max_size=4)


def reordered(value):
    """The same value with every mapping written down the other way round."""
    if isinstance(value, dict):
        return {key: reordered(value[key]) for key in reversed(list(value))}
    return [reordered(item) for item in value] if isinstance(value, list) else value


@given(VALUES)
def test_one_byte_form_for_one_value(value):
    assert canonical(value) == canonical(reordered(value))
    assert digest(value) == hashlib.sha256(canonical(value)).hexdigest()


def test_a_known_digest_stays_what_it_was():
    """Releases on disk were named by this form: it never changes."""
    assert canonical({"b": [1, 2.5, None], "a": "é"}) == '{"a":"é","b":[1,2.5,null]}'.encode()
    assert digest({"b": [1, 2.5, None], "a": "é"}) == "d764fee2563da33e3d57334755404e635da33c995824b0adfabc4b6e1af4f608"


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_what_has_no_json_form_is_refused(number):
    with pytest.raises(ValueError, match="Out of range float"):
        canonical(number)


@given(FILES, st.data())
def test_the_payload_digest_covers_names_sizes_and_hashes(files, data):
    before = payload_digest(files)
    assert payload_digest(reordered(files)) == before
    name = data.draw(st.sampled_from(sorted(files)))
    entry = files[name]
    for change in (
        {**files, name: entry.model_copy(update={"size": entry.size + 1})},
        {**files, name: entry.model_copy(update={"sha256": entry.sha256[::-1] + "0"})},
        {("renamed" + k if k == name else k): v for k, v in files.items()},
        {k: v for k, v in files.items() if k != name},
    ):
        assert payload_digest(change) != before


@given(FILES)
def test_the_evidence_digest_covers_payload_and_live(files):
    one = evidence_digest(files, "p", "r1")
    assert one == evidence_digest(reordered(files), "p", "r1")
    assert len({one, evidence_digest(files, "q", "r1"), evidence_digest(files, "p", "r2"), evidence_digest(files, "p", None),
                evidence_digest({}, "p", "r1")}) == 5


@given(st.binary(max_size=200))
def test_a_file_entry_is_its_bytes(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("entry") / "file"
    path.write_bytes(content)
    assert file_entry(path) == FileEntry(size=len(content), sha256=hashlib.sha256(content).hexdigest())


@given(st.dictionaries(st.text(max_size=5), st.integers(), max_size=4))
def test_a_release_is_named_by_day_and_inputs(inputs):
    name = release_id("2026-03-31", inputs)
    assert name.startswith("2026-03-31-")
    assert name == release_id("2026-03-31", reordered(inputs))
    assert name != release_id("2026-03-31", {**inputs, "one more": 1})


def test_a_collection_name_is_one_that_milvus_takes():
    assert collection_name("2026-03-31-0a1b2c3d4e") == "titles_2026_03_31_0a1b2c3d4e"


@given(st.sets(st.text("ABC_", min_size=1, max_size=6), max_size=90))
def test_every_market_is_searched_in_exactly_one_collection_of_few_fields(markets):
    spec = ReleaseSpec(release_id="r", day="", dimension=1, history_length=1, collection="titles_r", markets=sorted(markets, reverse=True),
                       feature_service="", ranker=RankerSpec(kind="blend"))
    groups = market_groups("titles_r", markets)
    assert spec.collections == groups
    assert next(iter(groups)) == "titles_r"
    assert sorted(market for group in groups.values() for market in group) == sorted(markets)
    assert all(3 + 2 * len(group) <= 64 for group in groups.values())
    assert all(market in groups[spec.collection_for(market)] for market in markets)
    assert spec.collection_for("newer") is None

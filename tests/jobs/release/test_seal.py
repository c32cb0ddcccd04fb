"""Sealing: files that agree, once; torn ones never."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from contracts import release as names
from contracts.errors import MarqueeError, UsageError
from contracts.query import ITEM_INPUTS, QUERY_OUTPUT
from contracts.release import RankerSpec, ReleaseSpec, State
from jobs.release import files, seal
from tests.jobs.release.conftest import DAY, D, build, tower


@pytest.fixture
def built(settings, ledger, ranker_text):
    ledger.begin("r1", DAY, "begin")
    return build(settings, "r1", ranker_text)


def respec(root, **changes) -> None:
    spec = ReleaseSpec.model_validate_json((root / names.SPEC).read_bytes())
    (root / names.SPEC).write_text(spec.model_copy(update=changes).model_dump_json())


def test_a_sealed_release_is_built_and_sealing_again_changes_nothing(settings, ledger, built):
    first = seal.run(settings, "r1")
    assert (first["state"], first["titles"], first["files"]) == (State.BUILT, 3, len(names.PAYLOAD_FILES))
    assert ledger.get("r1").payload_digest == first["payload_digest"]
    written = (built / names.PAYLOAD).read_bytes()
    history = ledger.transitions("r1")
    assert seal.run(settings, "r1") == first
    assert (built / names.PAYLOAD).read_bytes() == written
    assert ledger.transitions("r1") == history


def test_the_digest_depends_on_the_bytes_alone(settings, ledger, built, tmp_path, ranker_text):
    other = type(settings)(**{**settings.model_dump(), "home": tmp_path / "other"})
    build(other, "r1", ranker_text)
    from ledger import open_ledger

    open_ledger(other).begin("r1", DAY, "begin")
    assert seal.run(settings, "r1")["payload_digest"] == seal.run(other, "r1")["payload_digest"]


def test_a_file_that_changes_after_the_seal_is_torn(settings, ledger, built):
    seal.run(settings, "r1")
    np.save(built / names.ITEM_VECTORS, np.eye(3, D, k=1, dtype=np.float32))
    with pytest.raises(MarqueeError, match=r"item_vectors\.npy differ from what was sealed"):
        seal.run(settings, "r1")


def test_a_kill_between_file_and_ledger_is_mended(settings, ledger, built, monkeypatch):
    monkeypatch.setattr(type(ledger), "set_digests", lambda *a, **k: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        seal.run(settings, "r1")
    assert ledger.get("r1").state == State.BUILDING
    monkeypatch.undo()
    assert seal.run(settings, "r1")["state"] == State.BUILT


def test_a_failed_release_is_built_and_sealed_anew(settings, ledger, built):
    ledger.move("r1", State.FAILED, "ranker", "killed")
    assert seal.run(settings, "r1")["state"] == State.BUILT


def test_a_blend_needs_no_tree_model(settings, ledger, ranker_text):
    ledger.begin("r2", DAY, "begin")
    root = build(settings, "r2", ranker_text, kind="blend")
    sealed = seal.run(settings, "r2")
    assert not (root / names.RANKER).exists()
    assert sealed["files"] == len(names.PAYLOAD_FILES) - 1


@pytest.mark.parametrize("name", [n for n in names.PAYLOAD_FILES if n != names.SPEC])
def test_a_missing_file_is_named(settings, built, name):
    (built / name).unlink()
    with pytest.raises(MarqueeError, match=f"lacks {name}"):
        seal.run(settings, "r1")
    assert not (built / names.PAYLOAD).exists()


@pytest.mark.parametrize("name", [n for n in names.PAYLOAD_FILES if n != names.SPEC])
def test_an_unreadable_file_is_named(settings, built, name):
    (built / name).write_bytes(b"not what it says")
    with pytest.raises(MarqueeError, match=name):
        seal.run(settings, "r1")
    assert not (built / names.PAYLOAD).exists()


def wrong_rows(root):
    np.save(root / names.ITEM_VECTORS, np.eye(2, D, dtype=np.float32))


def wrong_width(root):
    np.save(root / names.ITEM_VECTORS, np.eye(3, D + 1, dtype=np.float32))


def not_a_number(root):
    vectors = np.eye(3, D, dtype=np.float32)
    vectors[1, 1] = np.nan
    np.save(root / names.ITEM_VECTORS, vectors)


def swapped_towers(root):
    tower(root / names.QUERY_TOWER, ITEM_INPUTS, QUERY_OUTPUT)


def other_width(root):
    from contracts.query import QUERY_INPUTS

    tower(root / names.QUERY_TOWER, QUERY_INPUTS, QUERY_OUTPUT, width=D + 2)


def unsorted_titles(root):
    table = pq.read_table(root / names.TITLES)
    pq.write_table(table.take([1, 0, 2]), root / names.TITLES)


def unknown_neighbour(root):
    pq.write_table(pa.table({"from_title": ["t1"], "to_title": ["stranger"], "weight": [1.0]}), root / names.TRANSITIONS)


def other_features(root):
    respec(root, ranker=RankerSpec(kind="lambdamart", features=["hour"]))


def other_kind(root):
    respec(root, ranker=RankerSpec(kind="oracle"))


def other_release(root):
    respec(root, release_id="r9")


def uncovered_markets(root):
    respec(root, markets=["de"])


@pytest.mark.parametrize(("spoil", "why"), [
    (wrong_rows, r"item_vectors\.npy is float32 \(2, 4\)"), (wrong_width, r"item_vectors\.npy is float32 \(3, 5\)"),
    (not_a_number, "1 rows have not length 1"), (swapped_towers, r"query_tower\.onnx takes"), (other_width, r"query_tower\.onnx gives"),
    (unsorted_titles, "not sorted"), (unknown_neighbour, "to_title names titles that"), (other_features, "RANKING_FEATURES"),
    (other_kind, "ranker kind 'oracle'"), (other_release, "release_id = 'r9'"), (uncovered_markets, "no order for market de"),
])
def test_files_that_disagree(settings, ledger, built, spoil, why):
    spoil(built)
    with pytest.raises(MarqueeError, match=why):
        seal.run(settings, "r1")
    assert ledger.get("r1").state == State.BUILDING


def test_a_market_where_nothing_is_licensed_is_no_fault(settings, ledger, built):
    respec(built, markets=["nl", "de"])
    assert seal.run(settings, "r1")["state"] == State.BUILT


def test_verify_computes_everything_anew(settings, make):
    manifest = make("r1")
    assert files.verify(settings, "r1") == manifest
    path = settings.releases / "r1" / names.MANIFEST
    for change in ({"evidence_digest": "0" * 64}, {"compared_with": "r0"}, {"release_id": "r9"},
                   {"payload": manifest.payload.model_copy(update={"payload_digest": "0" * 64})}):
        path.write_text(manifest.model_copy(update=change).model_dump_json())
        with pytest.raises(MarqueeError, match="release r1"):
            files.verify(settings, "r1")
    path.write_text("{}")
    with pytest.raises(MarqueeError, match="not a Manifest: release_id"):
        files.verify(settings, "r1")
    path.unlink()
    with pytest.raises(MarqueeError, match="run `marquee judge`"):
        files.verify(settings, "r1")


@pytest.mark.parametrize("name", ["nobody", "../r1", "", "."])
def test_a_name_that_is_no_release(settings, built, name):
    with pytest.raises(UsageError, match="no release"):
        files.folder(settings, name)

"""Only what is whole and fits together is loaded."""

import json
import shutil

import numpy as np
import pytest

from contracts import release as files
from contracts.features import RANKING_FEATURES
from serving.loader import ReleaseError, as_entered, load
from serving.score import RankerMismatch
from tests.serving.doubles import ONE
from tests.serving.tiny_world import reseal_spec, seal, train_ranker


@pytest.fixture
def folder(world, tmp_path):
    shutil.copytree(world.settings.releases / ONE, tmp_path / ONE)
    return tmp_path / ONE


@pytest.mark.parametrize("name", files.PAYLOAD_FILES)
def test_one_changed_byte_or_a_missing_file_is_refused(folder, name):
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(ReleaseError, match=f"{name}: is not what"):
        load(folder)
    (folder / name).unlink()
    with pytest.raises(ReleaseError, match=f"{name}: missing"):
        load(folder)


def test_the_manifest_is_needed_except_in_shadow_mode(folder):
    (folder / files.MANIFEST).unlink()
    with pytest.raises(ReleaseError, match=r"manifest\.json: missing"):
        load(folder)
    assert load(folder, judged=False).release_id == ONE


def test_a_manifest_of_another_payload_or_evidence_is_refused(folder):
    path = folder / files.MANIFEST
    manifest = json.loads(path.read_text())
    path.write_text(json.dumps(manifest | {"compared_with": "another"}))
    with pytest.raises(ReleaseError, match="evidence_digest"):
        load(folder)
    manifest["payload"]["payload_digest"] = "0" * 64
    path.write_text(json.dumps(manifest))
    with pytest.raises(ReleaseError, match="another payload"):
        load(folder)


def test_a_whole_folder_of_other_files_than_the_ledger_has_is_refused(folder):
    release = load(folder)
    assert as_entered(release, None, None) is release
    assert as_entered(release, release.payload_digest, release.evidence_digest) is release
    for digests in (("0" * 64, None), (release.payload_digest, "0" * 64)):
        with pytest.raises(ReleaseError, match="not the ledger's"):
            as_entered(release, *digests)


def test_a_payload_that_does_not_cover_its_files_is_refused(folder):
    path = folder / files.PAYLOAD
    payload = json.loads(path.read_text())
    del payload["files"][files.FALLBACK]
    path.write_text(json.dumps(payload))
    with pytest.raises(ReleaseError, match="does not cover"):
        load(folder, judged=False)
    path.write_text("{}")
    with pytest.raises(ReleaseError, match="wrong fields"):
        load(folder, judged=False)


def test_vectors_must_fit_the_titles(folder):
    np.save(folder / files.ITEM_VECTORS, np.zeros((3, 16), np.float32))
    seal(folder, ONE)
    with pytest.raises(ReleaseError, match="shape"):
        load(folder)


def test_a_ranker_of_other_features_is_refused(folder):
    reseal_spec(folder, ONE, ranker={"kind": "lambdamart", "features": list(RANKING_FEATURES[::-1])})
    with pytest.raises(RankerMismatch, match="order"):
        load(folder)
    odd = (*RANKING_FEATURES[:-1], "shoe_size")
    train_ranker(np.random.default_rng(0), odd).save_model(folder / files.RANKER)
    reseal_spec(folder, ONE, ranker={"kind": "lambdamart", "features": list(RANKING_FEATURES)})
    with pytest.raises(RankerMismatch, match="shoe_size"):
        load(folder)
    reseal_spec(folder, ONE, ranker={"kind": "magic"})
    with pytest.raises(RankerMismatch, match="magic"):
        load(folder)


def test_two_releases_keep_their_own(world):
    assert world.one.payload_digest != world.other.payload_digest
    assert world.one.spec.collection != world.other.spec.collection


def test_what_was_verified_is_held_in_memory(world):
    """Files copied over a mapped one would end the process, or change what is live."""
    assert not isinstance(world.one.vectors_ND, np.memmap)

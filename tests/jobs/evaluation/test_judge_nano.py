"""The nano world, by the real commands, up to a judged release."""

import json

from contracts.release import Manifest, ReleaseSpec


def test_a_nano_night_ends_with_a_judged_release(nano):
    done = nano.reach("judge").done
    folder = nano.settings.releases / nano.release_id
    spec = ReleaseSpec.model_validate_json((folder / "spec.json").read_text())
    manifest = Manifest.model_validate_json((folder / "manifest.json").read_text())
    assert manifest.payload.payload_digest == done["seal"]["payload_digest"] == done["judge"]["payload_digest"]
    assert spec.ranker.kind == done["ranker"]["kind"]
    assert done["ranker"]["title_features_differing"] == 0
    gates = {gate["name"]: gate for gate in json.loads((folder / "evidence" / "gates.json").read_text())["gates"]}
    for name in ("no_ineligible_title", "no_watched_title", "no_empty_shelf", "indexed_titles", "answered"):
        assert gates[name]["verdict"] == "passed", gates[name]
    assert done["judge"]["verdict"] == "passed", (folder / "evidence" / "card.md").read_text()
    assert done["judge"]["requests"] >= 20


def test_the_ranker_trains_to_the_same_bytes_again(nano):
    nano.reach("judge")
    folder = nano.settings.releases / nano.release_id
    before = {name: (folder / name).read_bytes() for name in ("spec.json", "ranker.txt") if (folder / name).exists()}
    nano.result("ranker", "--release", nano.release_id)
    assert {name: (folder / name).read_bytes() for name in before} == before

"""Do parts that must say the same say the same: files of one build, ONNX and torch, offline and online features."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from contracts import release as names
from contracts.content import Content, content_matrix
from contracts.marts import PROFILE_FEATURES, PROFILE_VIEW, tag_name
from contracts.query import ITEM_INPUTS, ITEM_OUTPUT, ITEM_TOWER_OF
from jobs import text
from jobs.evaluation import gates as gate
from jobs.evaluation.case import Case
from jobs.evaluation.gates import Gate
from jobs.evaluation.rules.index import Index
from jobs.lake import read

EMBEDDED = 256
TOWERS = "towers.json"
NUMBERS = tuple(name for name in PROFILE_FEATURES if name not in ("top_genres_30d", "top_genre_shares_30d", "last_play_at"))


def gates(case: Case, index: Index) -> Iterator[Gate]:
    yield _one_run(case)
    yield _onnx(case)
    yield _vectors(case, index)
    yield _indexed(case, index)
    yield _online(case)


def _one_run(case: Case) -> Gate:
    """A query tower only understands the vectors of the item tower that was trained with it."""
    name, rule = "towers_of_one_run", "the query tower was trained with this item tower"
    said = _metadata(case, names.QUERY_TOWER).get(ITEM_TOWER_OF)
    if said is None:
        return gate.not_applicable(name, "parity", rule, "the query tower does not say which item tower it was trained with", False)
    same = json.loads(said) == case.payload.files[names.ITEM_TOWER].sha256
    reason = "it is" if same else "it names another item tower: the two are of different runs"
    return gate.at_least(name, "parity", rule, float(same), 1.0, reason, False)


def _onnx(case: Case) -> Gate:
    """The figure that the towers step measured, for the very files that are judged."""
    name, rule = "onnx_equals_torch", "largest difference between torch and ONNX in any component of a vector"
    try:
        said = json.loads((case.settings.work / case.payload.release_id / TOWERS).read_text())
    except FileNotFoundError:
        return gate.not_applicable(name, "parity", rule, "the towers step's figures are gone (work/ was cleared)")
    changed = [n for n, sha in said["files"].items() if case.payload.files[n].sha256 != sha]
    if changed:
        return gate.below(name, "parity", rule, float("inf"), case.config.parity, f"{', '.join(changed)} changed after it was measured", False)
    worst = max(said["result"]["parity"].values())
    return gate.below(name, "parity", rule, worst, case.config.parity, f"{worst:.1e} over {', '.join(said['files'])}", False)


def _vectors(case: Case, index: Index) -> Gate:
    """Shuffled vectors, or those of another item tower, are not what this one says of the titles."""
    name, rule = "vectors_of_the_item_tower", "largest difference between a title's vector and what the item tower says of it"
    rows = np.sort(np.random.default_rng(case.config.seed).permutation(len(index.title_ids))[:EMBEDDED])
    some = case.titles.take(rows)
    try:
        tower = _session(case, names.ITEM_TOWER)
        said = text.encoder_of(tower.get_modelmeta().custom_metadata_map)
        inputs = (content_matrix([Content.of(row) for row in some.to_pylist()], said), some["id_index"].to_numpy().astype(np.int64))
        said_ND = tower.run([ITEM_OUTPUT], dict(zip(ITEM_INPUTS, inputs, strict=True)))[0]
    except Exception as error:  # onnxruntime raises many kinds for a file that is no model
        return gate.below(name, "parity", rule, float("inf"), case.config.parity, f"the item tower cannot be asked: {str(error)[:120]}", False)
    differs_N = np.abs(said_ND - index.vectors_TD[rows]).max(axis=1)
    wrong = int((differs_N > VECTOR_PARITY).sum())
    return gate.below(name, "parity", rule, float(differs_N.max()), VECTOR_PARITY, f"{wrong} of {len(rows)} titles differ", False)


VECTOR_PARITY = 1e-4
"""A batch of another size adds in another order, on a GPU in another precision: 1e-6 and 2e-5 are usual."""


def _indexed(case: Case, index: Index) -> Gate:
    name, rule = "indexed_vectors", "titles whose vector in the database is not the release's"
    if index.client is None:
        return gate.not_applicable(name, "parity", rule, index.error, False)
    wrong = sum(row is None or not np.allclose(row["vector"], vector_D, atol=1e-5)
                for row, vector_D in zip(index.rows, index.vectors_TD, strict=True))
    return gate.at_most(name, "parity", rule, wrong, 0, len(index.rows), "titles", False)


def _online(case: Case) -> Gate:
    """The store's online row of a profile against the newest offline row at the tag: the same profile and time."""
    name, rule = "online_equals_offline", "share of a profile's feature values that differ between the online store and the tag"
    try:
        online_day = json.loads((case.settings.home / "feast" / "materialised.json").read_text())["ds"]
    except FileNotFoundError:
        online_day = "no night"
    if online_day != case.provenance.day:
        return gate.not_applicable(name, "parity", rule, f"online rows are of {online_day}, this night is {case.provenance.day}")
    offline = _newest_offline(case)
    profiles = sorted(offline)
    chosen = [profiles[i] for i in np.random.default_rng(case.config.seed).permutation(len(profiles))[: case.config.online_profiles]]
    if not chosen:
        return gate.not_applicable(name, "parity", rule, "no profile has a feature row")
    online = _online_rows(case, chosen)
    differing = {feature: sum(not _same(offline[p][feature], online[p][feature]) for p in chosen) for feature in NUMBERS}
    worst, values = max(differing, key=differing.__getitem__), len(chosen) * len(NUMBERS)
    reason = f"{sum(differing.values())} of {values} values of {len(chosen)} profiles differ" + (f", most in {worst}" if differing[worst] else "")
    return gate.below(name, "parity", rule, round(sum(differing.values()) / values, 6), case.config.online_differs, reason)


def _newest_offline(case: Case) -> dict[str, Mapping[str, Any]]:
    """Profile -> its newest row known by the end of the night, where that is not aged out."""
    from feature_repo.feature_views import VALIDITY

    end = case.provenance.tag.split.judge_end
    rows = read.table(case.settings, "marts.feat_profile_daily", tag_name(case.provenance.day),
                      ("profile_id", "feature_time", "known_at", *NUMBERS),
                      f"feature_time <= '{end.isoformat()}' and known_at <= '{end.isoformat()}' and feature_time >= '{(end - VALIDITY).isoformat()}'")
    ordered = rows.sort_by([("feature_time", "ascending"), ("known_at", "ascending")])
    return {row["profile_id"]: row for row in ordered.to_pylist()}


def _online_rows(case: Case, profiles: list[str]) -> dict[str, Mapping[str, Any]]:
    from feature_repo.store import open_store

    store = open_store(case.settings, offline=False)
    found = store.get_online_features([f"{PROFILE_VIEW}:{name}" for name in NUMBERS], [{"profile_id": p} for p in profiles]).to_dict()
    return {p: {name: found[name][i] for name in NUMBERS} for i, p in enumerate(found["profile_id"])}


def _same(one: float | None, other: float | None) -> bool:
    if one is None or other is None:
        return one is None and other is None
    return bool(np.isclose(one, other, rtol=1e-6, equal_nan=True))


def _session(case: Case, name: str):
    import onnxruntime

    return onnxruntime.InferenceSession(str(case.folder / name), providers=["CPUExecutionProvider"])


def _metadata(case: Case, name: str) -> Mapping[str, str]:
    try:
        return _session(case, name).get_modelmeta().custom_metadata_map
    except Exception:  # unreadable: seal has refused it, or the shadow server will
        return {}

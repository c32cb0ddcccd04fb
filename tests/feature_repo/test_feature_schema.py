"""Feast's views, contracts.marts and dbt's contracts say the same, name by name and type by type."""

import pytest
import yaml

from contracts.marts import FEATURE_SERVICE, KEYS, MART_COLUMNS, PROFILE_FEATURES, TITLE_FEATURES, TRAINING_COLUMNS
from contracts.settings import REPOSITORY
from feature_repo.entities import ENTITIES
from feature_repo.feature_services import ONLINE_REFERENCES, references
from feature_repo.feature_views import FEAST_TYPES, ONLINE_VIEWS, VIEWS, profile_daily, profile_declared, title_daily

KEY = {entity.name: entity.join_key for entity in ENTITIES}
MART_YML = REPOSITORY / "dbt" / "models" / "marts"


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: view.name)
def test_a_view_has_the_columns_and_types_of_its_mart(view):
    mart = MART_COLUMNS[view.batch_source.name]
    *features, stamp = view.features
    assert {f.name: f.dtype for f in features} == {f.name: FEAST_TYPES[mart[f.name]] for f in features}
    assert stamp.name not in mart, "the stamp must not hide a column"
    assert view.batch_source.timestamp_field in mart
    assert view.batch_source.created_timestamp_column == "known_at"
    assert [KEY[name] in mart for name in view.entities] == [True]


@pytest.mark.parametrize("view", [view for view in VIEWS if view is not profile_declared], ids=lambda view: view.name)
def test_no_column_of_a_feature_mart_is_left_out(view):
    columns = [c for c in MART_COLUMNS[view.batch_source.name] if c not in (KEY[view.entities[0]], *KEYS)]
    assert [f.name for f in view.features[:-1]] == columns


def test_views_give_what_training_rows_need():
    requests, impressions = TRAINING_COLUMNS["requests"], TRAINING_COLUMNS["impressions"]
    offered = {reference.split(":")[1] for reference in references(profile_daily, profile_declared)}
    assert {*PROFILE_FEATURES, "profile_features_at", "market", "maturity_limit"} <= offered & set(requests)
    assert {*TITLE_FEATURES, "title_features_at"} == {r.split(":")[1] for r in references(title_daily)} & set(impressions)


def test_the_service_is_versioned_and_names_the_three_views():
    from feature_repo.feature_services import ranking_v1

    assert ranking_v1.name == FEATURE_SERVICE
    assert FEATURE_SERVICE.rsplit("_v", 1)[1].isdigit()
    assert {projection.name for projection in ranking_v1.feature_view_projections} == {"profile_daily", "profile_declared", "title_daily"}


def test_keys_are_single_strings():
    assert {len(view.entities) for view in VIEWS} == {1}
    assert {entity.value_type.name for entity in ENTITIES} == {"STRING"}


def test_online_references_do_not_collide():
    names = [reference.split(":")[1] for reference in ONLINE_REFERENCES]
    assert len(names) == len(set(names)) > 20
    assert title_daily not in ONLINE_VIEWS


@pytest.mark.parametrize("mart", MART_COLUMNS)
def test_dbt_contract_says_what_contracts_marts_says(mart):
    models = {
        model["name"]: model
        for path in sorted([*MART_YML.rglob("*.yml"), *MART_YML.rglob("*.yaml")])
        for model in (yaml.safe_load(path.read_text()) or {}).get("models", [])
    }
    assert mart in models, f"no yml under {MART_YML} describes {mart}"
    columns = {column["name"]: column.get("data_type", "").replace(" ", "") for column in models[mart]["columns"]}
    assert columns == MART_COLUMNS[mart]

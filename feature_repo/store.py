"""Opens the feature store that the settings describe: no feature_store.yaml, one code path for both offline and
online use, embedded or production.
"""

import os
import time
from typing import Any

from feast import FeatureService, FeatureStore, FeatureView, RepoConfig

import feature_repo
from contracts.settings import Settings
from feature_repo.entities import ENTITIES
from feature_repo.feature_services import SERVICES
from feature_repo.feature_views import VIEWS

PROJECT = "marquee"
REGISTRY_SECONDS = 60


def open_store(settings: Settings, offline: bool) -> FeatureStore:
    """The feature store. `offline`: retrieval on Spark, in the session that is active in the caller's thread; without
    it nothing of Spark is imported. Sets the process to UTC: Feast formats times in the process' zone, and another
    one gives silent nulls.
    """
    if offline:
        import feast.infra.offline_stores.contrib.spark_offline_store.spark  # noqa: F401
    feature_repo.quiet()
    os.environ["TZ"] = "UTC"
    time.tzset()
    (settings.home / "feast").mkdir(parents=True, exist_ok=True)
    return FeatureStore(config=RepoConfig(
        project=PROJECT,
        provider="local",
        registry={
            "registry_type": "sql",
            "path": settings.feast_registry_address(),
            "cache_ttl_seconds": REGISTRY_SECONDS,
        },
        offline_store={"type": "spark"} if offline else {"type": "dask"},
        online_store=_online_config(settings),
        entity_key_serialization_version=3,
    ))


def apply(store: FeatureStore, always: bool = False) -> bool:
    """Registers the definitions where they differ from the registry's; True where it did. `always` also makes online
    tables that are missing. Sources are not looked at: they are bound per session."""
    if _registered(store) and not always:
        return False
    store.apply([*ENTITIES, *VIEWS, *SERVICES], skip_feature_view_validation=True)
    return True


def _online_config(settings: Settings) -> dict[str, Any]:
    if settings.feast_redis:
        return {"type": "redis", "connection_string": settings.feast_redis}
    return {"type": "sqlite", "path": str(settings.home / "feast" / "online.db")}


def _registered(store: FeatureStore) -> bool:
    views = {view.name: _identity(view) for view in store.registry.list_feature_views(PROJECT)}
    services = {service.name: _members(service) for service in store.registry.list_feature_services(PROJECT)}
    return all(views.get(view.name) == _identity(view) for view in VIEWS) and all(
        services.get(service.name) == _members(service) for service in SERVICES)


def _identity(view: FeatureView) -> tuple:
    """What makes a view's definition; Feast's own equality also looks at what applying it adds."""
    source = view.batch_source
    features = sorted((field.name, str(field.dtype)) for field in view.features)
    return features, view.entities, view.ttl, view.online, source.query, source.timestamp_field, source.created_timestamp_column


def _members(service: FeatureService) -> list[str]:
    return sorted(projection.name for projection in service.feature_view_projections)

"""The versioned service that a release names. A change of meaning is a new version beside the old one."""

from feast import FeatureService, FeatureView

from contracts.marts import FEATURE_SERVICE
from feature_repo.feature_views import ONLINE_VIEWS, profile_daily, profile_declared, title_daily

ranking_v1 = FeatureService(
    name=FEATURE_SERVICE,
    description="what ranking reads of the marts; titles as of an older time than profiles, so retrieved one by one",
    features=[profile_daily, profile_declared, title_daily],
)
SERVICES = [ranking_v1]


def references(*views: FeatureView) -> list[str]:
    """`view:feature` of every feature of these views, in order."""
    return [f"{view.name}:{field.name}" for view in views for field in view.features]


ONLINE_REFERENCES = references(*ONLINE_VIEWS)
"""What serving asks for one profile."""

"""From marts at a tag to training rows and online rows, both through Feast.

`training` writes what every later step learns from and is judged on; `online` writes what serving reads of a profile.
What stays out: how features are computed (dbt), ranking features (contracts.features), histories (built by the towers
and by serving from plays).
"""

import feature_repo  # noqa: F401  first, so that Feast loads without torch and typeguard

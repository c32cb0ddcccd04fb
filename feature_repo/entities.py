"""Who and what features are about. Single string keys only: Feast concatenates composite keys without a separator, so
that (1, 23) and (12, 3) would be one.
"""

from feast import Entity, ValueType

profile = Entity(name="profile", join_keys=["profile_id"], value_type=ValueType.STRING, description="who watches")
title = Entity(name="title", join_keys=["title_id"], value_type=ValueType.STRING, description="what is watched")
ENTITIES = [profile, title]

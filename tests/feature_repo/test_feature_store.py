"""The store as serving opens it: light, in UTC, the same for everybody."""

import subprocess
import sys
import time

from contracts.settings import REPOSITORY, Settings
from feature_repo.feature_services import ONLINE_REFERENCES
from feature_repo.store import apply, open_store


def settings(folder) -> Settings:
    return Settings(_env_file=None, home=folder)


def test_online_use_needs_neither_spark_nor_torch(tmp_path):
    code = (
        "import sys; from contracts.settings import Settings; from feature_repo.store import apply, open_store;"
        "from feature_repo.feature_services import ONLINE_REFERENCES as asked;"
        f"store = open_store(Settings(_env_file=None, home={str(tmp_path)!r}), offline=False); apply(store);"
        "print(store.get_online_features(features=asked, entity_rows=[{'profile_id': 'p'}]).to_dict()['plays_7d']);"
        "print(sorted({'pyspark', 'torch'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, timeout=300)
    assert done.stdout.splitlines() == ["[None]", "[]"], done.stderr[-2000:]
    assert done.stderr == ""


def test_applying_twice_changes_nothing(tmp_path):
    assert apply(open_store(settings(tmp_path), offline=False))
    assert not apply(open_store(settings(tmp_path), offline=False))
    assert time.tzname[0] == "UTC"


def test_an_unknown_profile_has_no_values(tmp_path):
    store = open_store(settings(tmp_path), offline=False)
    apply(store)
    found = store.get_online_features(features=ONLINE_REFERENCES, entity_rows=[{"profile_id": "nobody"}]).to_dict()
    assert {values[0] for name, values in found.items() if name != "profile_id"} == {None}
    assert len(found) == len(ONLINE_REFERENCES) + 1


def test_redis_is_a_setting(tmp_path):
    store = open_store(Settings(_env_file=None, home=tmp_path, feast_redis="127.0.0.1:6379"), offline=False)
    assert store.config.online_store.type == "redis"

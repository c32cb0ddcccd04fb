"""Tokens say what has landed of a profile: its newest version, its household's market."""

from datetime import UTC, datetime

import jwt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from contracts.errors import UsageError
from contracts.landing import MARKER
from contracts.settings import Settings
from local import tokens

EARLY, LATE = datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 3, 2, tzinfo=UTC)


def land(home, interval: str, **tables) -> None:
    folder = home / "landing" / interval
    folder.mkdir(parents=True)
    for name, rows in tables.items():
        pq.write_table(pa.Table.from_pylist(rows), folder / f"{name}.parquet")
    (folder / MARKER).write_text("{}")


def profile(event: str, at: datetime, profile_id: str, **more) -> dict:
    return {"event_id": event, "event_time": at, "profile_id": profile_id, "household_id": "h1", "is_kids": False, "maturity_limit": 16} | more


@pytest.fixture
def settings(tmp_path) -> Settings:
    land(tmp_path, "2026-03-01", profiles=[profile("a", EARLY, "p1"), profile("b", EARLY, "p2", is_kids=True, maturity_limit=7),
                                           profile("c", EARLY, "p3", household_id=None, maturity_limit=None)],
         households=[{"event_id": "h", "event_time": EARLY, "household_id": "h1", "market": "SE"}])
    land(tmp_path, "2026-03-02", profiles=[profile("d", LATE, "p1", maturity_limit=12)],
         plays=[{"profile_id": p, "title_id": "t"} for p in ("p1", "p2", "p1")])
    return Settings(_env_file=None, home=tmp_path, token_secret="s" * 32)


def claims(settings: Settings, profile_id: str) -> dict:
    return jwt.decode(tokens.for_profile(settings, profile_id, 1), settings.token_secret, algorithms=["HS256"])


def test_the_newest_version_holds_and_the_market_is_the_households(settings):
    said = claims(settings, "p1")
    assert (said["sub"], said["profiles"], said["market"], said["maturity_limit"]) == ("h1", ["p1"], "SE", 12)


def test_an_unknown_limit_is_left_out_and_a_profile_alone_is_its_own_household(settings):
    said = claims(settings, "p3")
    assert said["sub"] == "p3"
    assert "maturity_limit" not in said, "serving takes an absent limit as the strictest"


def test_an_unknown_profile_is_refused(settings):
    with pytest.raises(UsageError, match="no profile 'nobody'"):
        tokens.for_profile(settings, "nobody", 1)


def test_the_demo_shows_an_active_member_and_a_kids_profile(settings):
    assert [(m.profile_id, m.is_kids) for m in tokens.typical_members(settings)] == [("p1", False), ("p2", True)]

"""What `marquee status` says of the live release."""

from datetime import UTC, datetime, timedelta

from contracts.release import State
from contracts.settings import Settings
from ledger import open_ledger
from local import status


def test_the_newest_night_stands_beside_the_live_release(tmp_path):
    settings = Settings(_env_file=None, home=tmp_path)
    ledger = open_ledger(settings)
    ledger.begin("r1", "2026-03-30", "begin")
    for state in (State.BUILT, State.JUDGED, State.AWAITING_APPROVAL):
        ledger.move("r1", state, "test")
    ledger.confirm(ledger.switch(ledger.propose("r1", 0).version, datetime.now(UTC) + timedelta(minutes=5)).version)
    assert status.live(settings)["quality"] is None
    for ds, recall in (("2026-03-31", 0.5), ("2026-04-01", 0.4)):
        ledger.keep_live_quality("r1", ds, "control", {"requests": 9, "recall_at_200": recall, "ndcg_at_10": 0.1, "models_age_days": 2})
    assert status.live(settings)["quality"] == {"ds": "2026-04-01", "requests": 9, "recall_at_200": 0.4, "ndcg_at_10": 0.1, "models_age_days": 2}

"""The one clock. Production has wall time; a simulated world's home keeps an offset, so that demo nights can pass
faster than real ones. Whoever lands a simulated day moves the offset; everybody reads it here.
"""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

from contracts import durable

CLOCK_FILE = "clock.json"


def now(home: Path) -> datetime:
    """The present in UTC, as the world that this home serves sees it."""
    try:
        offset = json.loads((home / CLOCK_FILE).read_text())["offset_seconds"]
    except FileNotFoundError:
        offset = 0.0
    return datetime.now(UTC) + timedelta(seconds=offset)


def set_now(home: Path, moment: datetime) -> None:
    """From here on the home's present runs on from `moment` (timezone-aware)."""
    offset = (moment - datetime.now(UTC)).total_seconds()
    home.mkdir(parents=True, exist_ok=True)
    durable.write(home / CLOCK_FILE, json.dumps({"offset_seconds": offset, "set_to": moment.isoformat()}))

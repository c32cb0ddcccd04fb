"""`marquee release trace`: from a slate that was shown to everything that made it, and from a release to its slates.

Slates land as impressions that name their release; before a night has ingested them the landed files are read.
"""

import json
from collections import Counter
from typing import Any

import pyarrow.parquet as pq
from pyiceberg.expressions import EqualTo

from contracts.errors import UsageError
from contracts.landing import list_intervals, table_files
from contracts.release import State
from contracts.settings import Settings
from jobs.lake import read
from jobs.release.inspect import describe
from ledger import open_ledger

COLUMNS = ("event_time", "slate_id", "profile_id", "title_id", "position", "release_id", "surface", "experiment", "arm")


def run(settings: Settings, name: str, as_json: bool) -> str:
    """UsageError where no slate and no release has this name."""
    if open_ledger(settings).get(name):
        found = {"release": _release(settings, name), "slates": _slates_of(settings, name)}
    else:
        found = of_slate(settings, name)
    return json.dumps(found, default=str) if as_json else as_text(found)


def of_slate(settings: Settings, slate_id: str) -> dict[str, Any]:
    """What was shown, and the release that computed it; `release` is None where the slate names none that is known."""
    rows = sorted(_impressions(settings, "slate_id", slate_id), key=lambda row: (row["position"] or 0, row["title_id"]))
    if not rows:
        raise UsageError(f"no slate and no release {slate_id!r}: impressions of a slate land with its night")
    first = rows[0]
    releases = sorted({row["release_id"] for row in rows if row["release_id"]})
    known = [release for release in releases if open_ledger(settings).get(release)]
    slate = {key: first.get(key) for key in ("slate_id", "profile_id", "event_time", "surface", "experiment", "arm")}
    return {
        "slate": slate | {"titles": [row["title_id"] for row in rows], "releases": releases},
        "release": _release(settings, known[0]) if len(releases) == 1 and known else None,
    }


def _release(settings: Settings, release: str) -> dict[str, Any]:
    """Models, data, gates and approver, from the ledger and the release's folder."""
    found = describe(settings, release)
    provenance = found["provenance"] or {}
    return {
        **{key: found[key] for key in ("release_id", "day", "state", "payload_digest", "evidence_digest", "compared_with", "verdict",
                                       "failed_gates", "gates")},
        "models": {name: entry["sha256"] for name, entry in found["files"].items() if name.endswith((".onnx", ".txt"))},
        "recipe": found["recipe"], "seed": provenance.get("seed"), "code": found["code"],
        "data": {"interval": found["tag"], "tag": provenance.get("tag", {}).get("ds") and f"nightly_{provenance['tag']['ds']}",
                 "tables": {name: table["logical_hash"] for name, table in provenance.get("tag", {}).get("tables", {}).items()}},
        "went_live": [
            {"at": t["at"], "by": t["actor"], "why": t["reason"], "came_from": t["from_state"], **t["details"]}
            for t in found["transitions"] if t["to_state"] == State.PROBING and t["from_state"] != State.PROBING
        ],
    }


def _slates_of(settings: Settings, release: str) -> dict[str, Any]:
    """How many slates the release computed, by day, and a few of them to go on with."""
    day_of = {row["slate_id"]: str(row["event_time"])[:10] for row in _impressions(settings, "release_id", release)}
    return {"count": len(day_of), "by_day": dict(sorted(Counter(day_of.values()).items())), "some": sorted(day_of)[:5]}


def _impressions(settings: Settings, column: str, value: str) -> list[dict[str, Any]]:
    """From the lake; where it has none, from what has landed."""
    try:
        rows = read.table(settings, "marts.fct_impression", row_filter=EqualTo(column, value)).to_pylist()
    except UsageError:
        rows = []
    return rows or list(_landed(settings, column, value))


def _landed(settings: Settings, column: str, value: str):
    for _, folder in reversed(list_intervals(settings.landing)):
        for path in table_files(folder, "impressions"):
            if path.suffix == ".jsonl":
                rows = [json.loads(line) for line in path.read_text().splitlines() if line.strip()]
            elif column in pq.read_schema(path).names:
                rows = pq.read_table(path, filters=[(column, "=", value)]).to_pylist()
            else:
                continue
            yield from ({name: row.get(name) for name in COLUMNS} for row in rows if row.get(column) == value)


def as_text(found: dict[str, Any]) -> str:
    lines = []
    if slate := found.get("slate"):
        lines += [f"slate {slate['slate_id']}: {len(slate['titles'])} titles for profile {slate['profile_id']} at {slate['event_time']}",
                  f"  {', '.join(slate['titles'][:10])}{' …' if len(slate['titles']) > 10 else ''}"]
        if found["release"] is None:
            return "\n".join([*lines, f"  computed by {', '.join(slate['releases']) or 'no release that it names'}, which the ledger does not know"])
    release = found["release"]
    lines += [f"release {release['release_id']} ({release['state']}), payload {release['payload_digest']}",
              f"  models   {', '.join(f'{name} {sha[:12]}' for name, sha in release['models'].items())}",
              f"  recipe   {release['recipe']}, seed {release['seed']}, code {str(release['code'])[:12]}",
              f"  data     {release['data']['tag']}: {release['data']['interval']}",
              f"  gates    {release['verdict']}{': ' + ', '.join(release['failed_gates']) if release['failed_gates'] else ''}, compared with "
              f"{release['compared_with'] or 'nothing'}"]
    lines += [f"  live     {live['at']:%Y-%m-%d %H:%M} by {live['by']}: {live['why']}" for live in release["went_live"]]
    if slates := found.get("slates"):
        lines += [f"  slates   {slates['count']}: {', '.join(f'{day} {count}' for day, count in slates['by_day'].items())}",
                  *(f"           {slate}" for slate in slates["some"])]
    return "\n".join(lines)

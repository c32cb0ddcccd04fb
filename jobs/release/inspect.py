"""`marquee release list|show|diff`: tables for people, one line of JSON for machines."""

import io
import json
import re
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table

from contracts.errors import MarqueeError, UsageError
from contracts.release import EVIDENCE, Provenance
from contracts.settings import Settings
from jobs.release import files
from jobs.release.files import verify
from ledger import Ledger, ReleaseRow, open_ledger

__all__ = ["diff", "list_releases", "show", "verify"]

ORDER = ("failed", "not_applicable", "passed")
HEADLINES = r"metrics\.[a-z_]+|metrics\.figures\.(requests|profiles|systems\.[a-z]+\.(ndcg_at_10|recall_at_200|coverage_at_10))"
"""Figures of metrics.json that a person compares."""

SHORT = 12
"""Digits of a digest that a person reads."""


def list_releases(settings: Settings, as_json: bool) -> str:
    """Every release in the ledger, oldest first, with its state; the live one is marked."""
    ledger = open_ledger(settings)
    pointer = ledger.pointer()
    rows = [_summary(ledger, row, live=bool(pointer) and row.release_id == pointer.release_id) for row in ledger.releases()]
    if as_json:
        return json.dumps(rows, default=str)
    if not rows:
        return "no release yet: `marquee demo`, or land a night and run `nightly`"
    cells = [[("→ " if r["live"] else "  ") + r["release_id"], r["state"], _short(r["payload_digest"]), r["compared_with"] or "-",
              r["by"], r["reason"]] for r in rows]
    return _table(("release", "state", "payload", "compared with", "last moved by", "why"), cells)


def show(settings: Settings, release: str, as_json: bool) -> str:
    """One release: digests, gates, provenance, and who did what when and why."""
    found = describe(settings, release)
    if as_json:
        return json.dumps(found, default=str)
    head = [[key, str(found[key] or "-")] for key in ("release_id", "day", "state", "live", "payload_digest", "evidence_digest",
                                                      "compared_with", "verdict")]
    head += [["models", found["models"]], ["tag", found["tag"]], ["code", _short(found["code"])], ["recipe", found["recipe"]]] if found["provenance"] else []
    parts = [_table(("", ""), head)]
    if found["gates"]:
        gates = sorted(found["gates"]["gates"], key=lambda gate: ORDER.index(gate["verdict"]))
        cells = [[gate["verdict"].replace("_", " "), gate["name"], gate["rule"], gate["reason"]] for gate in gates]
        parts.append(_table(("verdict", "gate", "rule", "found"), cells))
    if found["live_quality"]:
        nights = [[q["ds"], q["arm"], *(f"{q['figures'][name]:.4f}" for name in ("recall_at_200", "ndcg_at_10"))] for q in found["live_quality"]]
        parts.append(_table(("live on the night of", "arm", "recall@200", "NDCG@10"), nights))
    history = [[f"{t['at']:%Y-%m-%d %H:%M:%S}", t["actor"], _arrow(t), t["reason"]] for t in found["transitions"]]
    return "\n".join([*parts, _table(("when (UTC)", "who", "what", "why"), history)])


def diff(settings: Settings, one: str, other: str, as_json: bool) -> str:
    """What differs between two releases: data, code, recipe, libraries, files, figures."""
    left, right = (_flat(_comparable(describe(settings, release))) for release in (one, other))
    changed = {k: [left.get(k), right.get(k)] for k in sorted({*left, *right}) if left.get(k) != right.get(k)}
    if as_json:
        return json.dumps({"one": one, "other": other, "differs": changed}, default=str)
    if not changed:
        return f"{one} and {other} differ in nothing"
    rows = [[k, _short(a), _short(b)] for k, (a, b) in changed.items() if not k.startswith("metrics.") or re.fullmatch(HEADLINES, k)]
    more = f"\n{len(changed) - len(rows)} more figures differ: `--json` has them" if len(rows) < len(changed) else ""
    return _table(("what", one, other), rows) + more


def describe(settings: Settings, release: str) -> dict[str, Any]:
    """Everything known of a release, from the ledger and its folder; UsageError where the ledger has none of that name."""
    ledger = open_ledger(settings)
    row = ledger.get(release)
    if row is None:
        raise UsageError(f"no release {release!r} in the ledger; `marquee release list` shows the ones there are")
    pointer = ledger.pointer()
    provenance = _optional(lambda: files.provenance(settings, release))
    manifest = _optional(lambda: files.manifest(settings, release))
    payload = manifest.payload if manifest else _optional(lambda: files.payload(settings, release))
    recipe = provenance.recipe if provenance else {}
    return {
        **asdict(row), "live": bool(pointer) and pointer.release_id == release,
        "verdict": manifest and manifest.verdict, "failed_gates": manifest.failed_gates if manifest else [],
        "gates": _evidence(settings, release, "gates.json"), "metrics": _evidence(settings, release, "metrics.json"),
        "files": {name: entry.model_dump() for name, entry in payload.files.items()} if payload else {},
        "provenance": provenance and provenance.model_dump(mode="json"),
        "tag": provenance and f"{provenance.tag.first} to {provenance.tag.last}",
        "code": provenance and provenance.code, "recipe": recipe.get("name", "-"),
        "models": provenance and _models(provenance),
        "live_quality": [asdict(q) for q in ledger.live_quality(release)],
        "transitions": [asdict(t) for t in ledger.transitions(release)],
    }


def _models(provenance: Provenance) -> str:
    if provenance.refresh is None:
        return "trained by this release"
    return f"kept from {provenance.refresh.of}, trained by {provenance.trained_by}"


def _summary(ledger: Ledger, row: ReleaseRow, live: bool) -> dict[str, Any]:
    last = ledger.transitions(row.release_id)[-1]
    return {**asdict(row), "live": live, "by": last.actor, "reason": last.reason, "at": last.at}


def _comparable(found: dict[str, Any]) -> dict[str, Any]:
    provenance = found["provenance"] or {}
    hashes = {part: {name: t["logical_hash"] for name, t in provenance.get(part, {}).get("tables", {}).items()}
              for part in ("tag", "training")}
    return {
        "data": hashes, "code": found["code"], "recipe": provenance.get("recipe"), "libraries": provenance.get("libraries"),
        "files": {name: entry["sha256"] for name, entry in found["files"].items()},
        "metrics": found["metrics"], "verdict": found["verdict"], "compared_with": found["compared_with"],
    }


def _evidence(settings: Settings, release: str, name: str) -> Any:
    try:
        return json.loads((files.folder(settings, release) / EVIDENCE / name).read_text())
    except (OSError, ValueError, UsageError):
        return None


def _optional(read):
    """What `read` gives, or None where the file is not there yet."""
    try:
        return read()
    except MarqueeError:
        return None


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """Nested mappings and lists as one, keys joined by dots."""
    if isinstance(value, list):
        value = {str(i): item for i, item in enumerate(value)}
    if not isinstance(value, dict):
        return {prefix: value}
    flat: dict[str, Any] = {}
    for key, item in value.items():
        flat |= _flat(item, f"{prefix}.{key}" if prefix else str(key))
    return flat


def _short(value: Any) -> str:
    text = "-" if value is None else str(value)
    return text[:SHORT] if len(text) == 64 and set(text) <= set("0123456789abcdef") else text


def _arrow(transition: dict[str, Any]) -> str:
    before, after = transition["from_state"], transition["to_state"]
    return f"{before}: refused" if before == after else f"{before or ''} → {after}".strip()


def _table(columns: tuple[str, ...], rows: list[list[Any]]) -> str:
    table = Table(*columns, box=None, pad_edge=False, show_header=any(columns))
    for row in rows:
        table.add_row(*(str(cell) for cell in row))
    console = Console(file=io.StringIO(), width=180, color_system=None)
    console.print(table)
    return "\n".join(line.rstrip() for line in console.file.getvalue().rstrip().splitlines())

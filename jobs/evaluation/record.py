"""What a judgement leaves: the evidence folder, the manifest, the ledger's state, the command's result."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

from contracts import clock, durable
from contracts import release as names
from contracts.release import FileEntry, Manifest, Payload, State, evidence_digest, file_entry
from contracts.settings import Settings
from jobs.evaluation import gates
from jobs.evaluation.card import card
from jobs.evaluation.evidence import Evidence
from jobs.evaluation.figures import CANDIDATE, NDCG
from jobs.evaluation.report import report
from ledger import Ledger


def evidence_files(folder: Path, evidence: Evidence, times: dict[str, list[float]]) -> dict[str, FileEntry]:
    """The evidence folder, made aside and renamed into place; names are relative to it."""
    aside, old = folder / f".{names.EVIDENCE}.{os.getpid()}", folder / f".{names.EVIDENCE}.old.{os.getpid()}"
    aside.mkdir(parents=True)
    said = evidence.model_dump()
    metrics = {key: said[key] for key in ("release_id", "day", "payload_digest", "live", "live_comparable", "live_note",
                                          "figures", "corrected", "health", "latency_ms", "changes", "ranker")}
    files = {
        "metrics.json": _json(metrics), "gates.json": _json({"verdict": evidence.verdict, "gates": said["gates"]}),
        "golden.json": _json(said["golden"]), "card.md": card(evidence), "report.html": report(evidence, times),
    }
    for name, text in files.items():
        (aside / name).write_text(text)
    place = folder / names.EVIDENCE
    if place.exists():
        place.rename(old)
    durable.publish(aside, place)
    shutil.rmtree(old, ignore_errors=True)
    return {name: file_entry(place / name) for name in sorted(files)}


def _json(value: Any) -> str:
    return json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


def manifest(
    settings: Settings, folder: Path, payload: Payload, evidence: Evidence, entries: dict[str, FileEntry], rules: str
) -> Manifest:
    """Written last; `rules` says by which thresholds it was judged."""
    made = Manifest(
        release_id=payload.release_id, day=evidence.day, payload=payload, evidence=entries,
        evidence_digest=evidence_digest(entries, payload.payload_digest, evidence.live), compared_with=evidence.live,
        verdict=evidence.verdict, failed_gates=gates.failed(evidence.gates),
        annotations={"judged_at": clock.now(settings.home).isoformat(timespec="seconds"), "judge": rules},
    )
    durable.write(folder / names.MANIFEST, made.model_dump_json(indent=1) + "\n")
    return made


def enter(ledger: Ledger, manifest: Manifest, before: State, actor: str) -> None:
    """Digests and state into the ledger; a question that waits on this very evidence keeps waiting."""
    row = ledger.get(manifest.release_id)
    unchanged = row.evidence_digest == manifest.evidence_digest and row.compared_with == manifest.compared_with
    if unchanged and before in (State.JUDGED, State.BLOCKED, State.AWAITING_APPROVAL):
        return
    to = State.BLOCKED if manifest.verdict == "blocked" else State.JUDGED
    reason = f"failed: {', '.join(manifest.failed_gates)}" if manifest.failed_gates else "every gate that applies passed"
    ledger.move(manifest.release_id, to, actor, reason, {"evidence_digest": manifest.evidence_digest})
    # after the move: a question on older evidence is withdrawn before new digests stand in its place
    ledger.set_digests(manifest.release_id, payload_digest=manifest.payload.payload_digest,
                       evidence_digest=manifest.evidence_digest, compared_with=manifest.compared_with)


def result(folder: Path, manifest: Manifest) -> dict[str, Any]:
    figures, judged = (json.loads((folder / names.EVIDENCE / name).read_text()) for name in ("metrics.json", "gates.json"))
    return {
        "release_id": manifest.release_id, "payload_digest": manifest.payload.payload_digest,
        "evidence_digest": manifest.evidence_digest, "evaluation": manifest.evidence_digest[:10],
        "compared_with": manifest.compared_with, "verdict": manifest.verdict, "failed_gates": manifest.failed_gates,
        "never_overridden": [gate["name"] for gate in judged["gates"] if not gate["overridable"]],
        "requests": figures["figures"]["requests"],
        NDCG: {name: values[NDCG] for name, values in figures["figures"]["systems"].items()},
        "recall_at_200": figures["figures"]["systems"][CANDIDATE]["recall_at_200"],
        "latency_ms": figures["latency_ms"].get(CANDIDATE),
    }

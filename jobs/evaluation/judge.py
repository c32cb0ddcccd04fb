"""Judges a sealed release on the night's own day: real shadow servers answer the judge's requests, figures and gates
follow, the evidence is written, the manifest last.

Nothing here changes what serves: the payload digest is checked before and named after, never made.
"""

import json
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from contracts import clock, durable
from contracts import release as names
from contracts.errors import MarqueeError, UsageError
from contracts.marts import tag_name
from contracts.release import (
    FileEntry,
    Manifest,
    Payload,
    Provenance,
    ReleaseSpec,
    State,
    digest,
    evidence_digest,
    file_entry,
)
from contracts.settings import Settings
from jobs.evaluation import eligible, gates, requests
from jobs.evaluation.card import card
from jobs.evaluation.changes import changes
from jobs.evaluation.collection import indexed_titles
from jobs.evaluation.config import JudgeConfig
from jobs.evaluation.curve import learning_curve
from jobs.evaluation.evidence import Evidence, GoldenShelf
from jobs.evaluation.figures import CANDIDATE, LIVE, NDCG, POPULARITY, RETRIEVAL, CatalogueFacts, Comparison, Lists
from jobs.evaluation.gates import Gate
from jobs.evaluation.golden import Golden, golden_profiles
from jobs.evaluation.report import report
from jobs.evaluation.requests import Judged
from jobs.evaluation.shadow import Answer, replay, server
from jobs.runtime import log
from ledger import Ledger, open_ledger

ACTOR = "judge"
JUDGEABLE = (State.BUILT, State.JUDGED, State.BLOCKED, State.AWAITING_APPROVAL, State.EXPIRED)
LONGEST_POOL = 200


@dataclass(frozen=True)
class Live:
    """The live release as the candidate's judge sees it."""

    release_id: str | None
    provenance: Provenance | None
    comparable: bool
    note: str


@dataclass(frozen=True)
class Replayed:
    """One release's answers: to the judged requests (empty where it is not compared), and to the golden profiles."""

    answers: list[Answer]
    golden: list[Answer]


def run(settings: Settings, release_id: str, config: JudgeConfig) -> dict[str, Any]:
    """Raises UsageError where the release was not sealed, MarqueeError where its files are not those that were sealed.

    Judged already, against the same live release and by the same rules: nothing is done again.
    """
    folder = settings.releases / release_id
    payload, provenance = _sealed(folder)
    ledger = open_ledger(settings)
    live = _live(settings, ledger, provenance)
    found = ledger.get(release_id)
    if found is None:
        raise UsageError(f"the ledger does not know {release_id}: run `marquee release begin` and the build steps first")
    standing = _standing(folder, payload, live, config, final=found.state not in JUDGEABLE)
    if standing is None and found.state not in JUDGEABLE:
        raise UsageError(f"{release_id} is {found.state}: only a built release can be judged; run `marquee release seal` first")
    if standing is None:
        standing = _judge(settings, ledger, folder, payload, provenance, live, config)
    if found.state in JUDGEABLE:
        _enter(ledger, standing, found.state)
    return _result(folder, standing)


def _judge(
    settings: Settings, ledger: Ledger, folder: Path, payload: Payload, provenance: Provenance, live: Live, config: JudgeConfig
) -> Manifest:
    split, ds = provenance.tag.split, provenance.day
    judged, state = requests.load(settings, ds, tag_name(ds), split.judge_end, config)
    titles = pq.read_table(folder / names.TITLES)
    spec = ReleaseSpec.model_validate_json((folder / names.SPEC).read_text())
    golden = golden_profiles(titles, spec.markets)
    moment = split.ranker_end + split.block / 2
    eligibility = eligible.EligibilityLog.read(ledger)
    if not eligibility.head:
        raise UsageError("the eligibility log is empty, so that nothing may be shown: run `marquee launches` first")
    with _member_state(settings, payload.release_id, state, golden, moment) as members:
        ours = _replay(settings, payload.release_id, members, judged, golden, moment, config)
        theirs = None
        if live.release_id:
            asked = judged if live.comparable else []
            theirs = _replay(settings, live.release_id, members, asked, golden, moment, config)
    if max((answer.eligibility_seq for answer in ours.answers), default=0) > eligibility.head:
        eligibility = eligible.EligibilityLog.read(ledger)  # it grew while the shelves were computed

    systems = _systems(folder, judged, ours.answers, theirs.answers if theirs else [], eligibility, config)
    comparison = Comparison(judged, systems, _facts(titles), config)
    indexed = indexed_titles(settings, list(spec.collections))
    decided = _gates(judged, ours.answers, comparison, eligibility, live, indexed, titles.num_rows, config)
    times = {CANDIDATE: _times(ours.answers)} | ({LIVE: _times(theirs.answers)} if theirs and theirs.answers else {})
    evidence = Evidence(
        release_id=payload.release_id, day=ds, payload_digest=payload.payload_digest, live=live.release_id,
        live_comparable=live.comparable, live_note=live.note, verdict=gates.verdict(decided), gates=decided,
        figures=comparison.as_json(), health=_health(ours.answers, eligibility, judged),
        latency_ms={name: _latency(values) for name, values in times.items()},
        golden=_golden(golden, titles, ours.golden, theirs.golden if theirs else None),
        changes=changes(provenance, live.provenance), ranker=spec.ranker.model_dump(),
        curve=learning_curve(settings, payload.release_id),
    )
    entries = _write_evidence(folder, evidence, times)
    return _write_manifest(settings, folder, payload, evidence, entries, config)


# --- before ---------------------------------------------------------------------------------------------------------

def _sealed(folder: Path) -> tuple[Payload, Provenance]:
    """The payload as it was sealed, every file checked, and where it comes from."""
    try:
        payload = Payload.model_validate_json((folder / names.PAYLOAD).read_text())
        provenance = Provenance.model_validate_json((folder / names.PROVENANCE).read_text())
    except FileNotFoundError as error:
        raise UsageError(f"{error.filename} is missing: run `marquee release seal --release {folder.name}` first") from None
    for name, entry in payload.files.items():
        if not (folder / name).is_file() or file_entry(folder / name) != entry:
            raise MarqueeError(f"{folder / name} is not what {names.PAYLOAD} says: build and seal the release again")
    if names.payload_digest(payload.files) != payload.payload_digest:
        raise MarqueeError(f"{folder / names.PAYLOAD}: the payload digest does not cover its files: seal the release again")
    return payload, provenance


def _live(settings: Settings, ledger: Ledger, candidate: Provenance) -> Live:
    """The release to compare with. While a swap is being probed, that is still the one before."""
    pointer = ledger.pointer()
    live = (pointer.previous if pointer.phase == "probing" else pointer.release_id) if pointer else None
    if live is None or live == candidate.release_id:
        return Live(None, None, False, "No release is live: compared with popularity and retrieval order only.")
    try:
        provenance = Provenance.model_validate_json((settings.releases / live / names.PROVENANCE).read_text())
    except FileNotFoundError as error:
        raise MarqueeError(f"the live release {live} has no {error.filename}: restore it, or roll back") from None
    if provenance.tag.split.ranker_end > candidate.tag.split.ranker_end:
        return Live(live, provenance, False, f"Not compared with live: {live} has learnt from the judged day {candidate.day}.")
    return Live(live, provenance, True, f"Compared with live: {live}.")


def _standing(folder: Path, payload: Payload, live: Live, config: JudgeConfig, final: bool) -> Manifest | None:
    """The manifest of an earlier judgement that still holds. A release past judging (`final`) keeps its own, whatever
    is live by now: what was approved is not written over."""
    try:
        manifest = Manifest.model_validate_json((folder / names.MANIFEST).read_text())
    except FileNotFoundError:
        return None
    whole = manifest.payload == payload and all(
        (folder / names.EVIDENCE / name).is_file() and file_entry(folder / names.EVIDENCE / name) == entry
        for name, entry in manifest.evidence.items()
    )
    if not whole and final:
        raise MarqueeError(f"{folder}: {names.MANIFEST} and the files it names differ, and the release is past judging")
    same = manifest.compared_with == live.release_id and manifest.annotations.get("judge") == _rules(config)
    return manifest if whole and (final or same) else None


def _rules(config: JudgeConfig) -> str:
    return digest(asdict(config))


# --- asking ---------------------------------------------------------------------------------------------------------

@contextmanager
def _member_state(
    settings: Settings, release_id: str, state: requests.MemberState, golden: Sequence[Golden], moment: datetime
) -> Iterator[Path]:
    """The folder that the shadow servers hydrate from; it holds rows of members, so it does not outlive them."""
    folder = settings.work / release_id / "judge"
    try:
        state.write(folder, golden, moment)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _replay(
    settings: Settings, release_id: str, members: Path, judged: Sequence[Judged], golden: Sequence[Golden], moment: datetime,
    config: JudgeConfig,
) -> Replayed:
    with server(settings, release_id, members, config.ready_seconds) as address:
        shown = replay(address, [one.ask(moment) for one in golden], config.shelf_size, 1)
        answers = replay(address, [one.ask() for one in judged], config.shelf_size, config.client_threads)
    failed = [answer.error for answer in answers if answer.error]
    if failed:
        log.warning("%d of %d shelves of %s failed, first: %s", len(failed), len(answers), release_id, failed[0])
    return Replayed(answers, shown)


# --- figures --------------------------------------------------------------------------------------------------------

def _systems(
    folder: Path, judged: Sequence[Judged], ours: Sequence[Answer], theirs: Sequence[Answer],
    eligibility: eligible.EligibilityLog, config: JudgeConfig,
) -> dict[str, list[Lists | None]]:
    """The same requests by every system; a baseline sees what the candidate may show: eligible, not watched."""
    fallback = _fallback(folder)
    size = config.shelf_size
    systems: dict[str, list[Lists | None]] = {CANDIDATE: [_lists(answer) for answer in ours]}
    if theirs:
        systems[LIVE] = [_lists(answer) for answer in theirs]
    popular, retrieved = [], []
    for one, answer in zip(judged, ours, strict=True):
        state = eligibility.at(answer.eligibility_seq or eligibility.head)
        order = eligible.allowed(eligible.popular_order(fallback, one), one, state, LONGEST_POOL)
        popular.append(Lists(order[:size], order))
        kept = eligible.allowed(answer.pool, one, state, LONGEST_POOL)
        retrieved.append(None if answer.error else Lists(kept[:size], kept))
    return systems | {POPULARITY: popular, RETRIEVAL: retrieved}


def _lists(answer: Answer) -> Lists | None:
    return None if answer.error else Lists(answer.titles, answer.pool)


def _fallback(folder: Path) -> dict[tuple[str, str], list[str]]:
    orders: dict[tuple[str, str], list[str]] = {}
    table = pq.read_table(folder / names.FALLBACK, columns=["market", "cohort", "rank", "title_id"])
    for row in table.sort_by([("market", "ascending"), ("cohort", "ascending"), ("rank", "ascending")]).to_pylist():
        orders.setdefault((row["market"], row["cohort"]), []).append(row["title_id"])
    return orders


def _facts(titles: pa.Table) -> CatalogueFacts:
    ids = titles["title_id"].to_pylist()
    plays = [value or 0 for value in titles["plays_30d"].to_pylist()]
    most_played = sorted(zip(ids, plays), key=lambda pair: (-pair[1], pair[0]))[: max(1, len(ids) // 10)]
    launched = {title: requests.as_utc(moment).timestamp() for title, moment in zip(ids, titles["launched_at"].to_pylist()) if moment}
    genres = dict(zip(ids, (value or () for value in titles["genres"].to_pylist())))
    return CatalogueFacts(len(ids), genres, launched, frozenset(title for title, _ in most_played))


def _times(answers: Sequence[Answer]) -> list[float]:
    return [answer.milliseconds for answer in answers if answer.error is None]


def _latency(milliseconds: Sequence[float]) -> dict[str, float]:
    if not milliseconds:
        return {}
    return {f"p{q}": round(float(np.percentile(milliseconds, q)), 1) for q in (50, 90, 99)}


def _health(answers: Sequence[Answer], eligibility: eligible.EligibilityLog, judged: Sequence[Judged]) -> dict[str, Any]:
    stages = sorted({stage for answer in answers for stage in answer.degraded})
    return {
        "shelves": len(answers), "failed": sum(answer.error is not None for answer in answers),
        "failures": dict(sorted(Counter(answer.error.split(":")[0] for answer in answers if answer.error).items())),
        "degraded": {stage: sum(stage in answer.degraded for answer in answers) for stage in stages},
        "titles_shown": sum(len(answer.titles) for answer in answers),
        "ineligible": _by_title(eligible.ineligible(judged, answers, eligibility)),
        "watched": _by_title(eligible.watched_again(judged, answers)),
        "eligibility_seq": max((answer.eligibility_seq for answer in answers), default=0),
    }


def _by_title(violations: Sequence[eligible.Violation]) -> dict[str, int]:
    """How often each title broke which rule; no release file names a member."""
    return dict(sorted(Counter(f"{v.title_id}: {v.reason}" for v in violations).items())[:20])


def _golden(
    golden: Sequence[Golden], titles: pa.Table, ours: Sequence[Answer], theirs: Sequence[Answer] | None
) -> list[GoldenShelf]:
    name_of = dict(zip(titles["title_id"].to_pylist(), titles["name"].to_pylist()))
    before = theirs if theirs is not None else [None] * len(golden)
    return [
        GoldenShelf(profile=one.profile_id, says=one.says, market=one.market, watched=[name_of[t] for t in one.watched],
                    before=list(was.names[:10]) if was else None, after=list(now.names[:10]))
        for one, now, was in zip(golden, ours, before, strict=True)
    ]


# --- gates ----------------------------------------------------------------------------------------------------------

def _gates(
    judged: Sequence[Judged], answers: Sequence[Answer], comparison: Comparison, eligibility: eligible.EligibilityLog,
    live: Live, indexed: tuple[int | None, str], titles: int, config: JudgeConfig,
) -> list[Gate]:
    """Every rule, safety first. Whether the comparisons may speak is decided before any of them is looked at."""
    shown = sum(len(answer.titles) for answer in answers)
    answered = [answer for answer in answers if answer.error is None]
    size = gates.enough(len(judged), config.min_requests)
    return [
        gates.at_most("no_ineligible_title", "safety", "no title outside its licence window or above the maturity limit",
                      len(eligible.ineligible(judged, answers, eligibility)), 0, shown, "titles shown", False),
        gates.at_most("no_watched_title", "safety", "no title that the profile has watched",
                      len(eligible.watched_again(judged, answers)), 0, shown, "titles shown", False),
        gates.at_most("no_empty_shelf", "safety", "no empty shelf while a title is eligible",
                      len(eligible.needlessly_empty(judged, answers, eligibility)), 0, len(answered), "shelves", False),
        gates.equal("indexed_titles", "every title of the release is in the vector index", indexed[0], titles, indexed[1]),
        gates.at_most("answered", "completeness", "share of requests without an answer",
                      1 - len(answered) / max(1, len(answers)), config.max_failed_answers, len(answers), "requests", True),
        gates.at_most("not_degraded", "completeness", "share of shelves that a fallback stood in for",
                      round(sum(bool(a.degraded) for a in answered) / max(1, len(answered)), 6), config.max_degraded_answers,
                      len(answered), "shelves", True),
        size,
        *_comparisons(comparison, live, size, config),
    ]


def _comparisons(comparison: Comparison, live: Live, size: Gate, config: JudgeConfig) -> list[Gate]:
    speak = size.verdict == gates.PASSED
    against = {name: comparison.difference(NDCG, name) if speak else None for name in (LIVE, POPULARITY, RETRIEVAL)}
    why_not = "" if speak else f"decided before the comparison: {size.figure:g} requests, {size.threshold:g} needed"
    popularity = (
        gates.better("better_than_popularity", "NDCG@10 above popularity's", against[POPULARITY], why_not)
        if config.popularity_must_be_beaten else
        gates.not_worse("better_than_popularity", "NDCG@10 not significantly below popularity's", against[POPULARITY], 0.0, why_not)
    )
    return [
        gates.not_worse("not_worse_than_live", f"NDCG@10 not significantly more than {config.live_margin:.0%} below live's",
                        against[LIVE], config.live_margin, live.note if not live.comparable else why_not),
        popularity,
        gates.not_worse("not_worse_than_retrieval_order", "NDCG@10 not significantly below the retrieval order's",
                        against[RETRIEVAL], 0.0, why_not),
    ]


# --- after ----------------------------------------------------------------------------------------------------------

def _write_evidence(folder: Path, evidence: Evidence, times: dict[str, list[float]]) -> dict[str, FileEntry]:
    """The evidence folder, made aside and renamed into place; names are relative to it."""
    aside, old = folder / f".{names.EVIDENCE}.{os.getpid()}", folder / f".{names.EVIDENCE}.old.{os.getpid()}"
    aside.mkdir(parents=True)
    said = evidence.model_dump()
    metrics = {key: said[key] for key in ("release_id", "day", "payload_digest", "live", "live_comparable", "live_note",
                                          "figures", "health", "latency_ms", "changes", "ranker")}
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


def _write_manifest(
    settings: Settings, folder: Path, payload: Payload, evidence: Evidence, entries: dict[str, FileEntry], config: JudgeConfig
) -> Manifest:
    manifest = Manifest(
        release_id=payload.release_id, day=evidence.day, payload=payload, evidence=entries,
        evidence_digest=evidence_digest(entries, payload.payload_digest, evidence.live), compared_with=evidence.live,
        verdict=evidence.verdict, failed_gates=gates.failed(evidence.gates),
        annotations={"judged_at": clock.now(settings.home).isoformat(timespec="seconds"), "judge": _rules(config)},
    )
    durable.write(folder / names.MANIFEST, manifest.model_dump_json(indent=1) + "\n")
    return manifest


def _enter(ledger: Ledger, manifest: Manifest, before: State) -> None:
    """Digests and state into the ledger; a question that waits on this very evidence keeps waiting."""
    row = ledger.get(manifest.release_id)
    unchanged = row.evidence_digest == manifest.evidence_digest and row.compared_with == manifest.compared_with
    if unchanged and before in (State.JUDGED, State.BLOCKED, State.AWAITING_APPROVAL):
        return
    to = State.BLOCKED if manifest.verdict == "blocked" else State.JUDGED
    reason = f"failed: {', '.join(manifest.failed_gates)}" if manifest.failed_gates else "every gate that applies passed"
    ledger.move(manifest.release_id, to, ACTOR, reason, {"evidence_digest": manifest.evidence_digest})
    # after the move: a question on older evidence is withdrawn before new digests stand in its place
    ledger.set_digests(manifest.release_id, payload_digest=manifest.payload.payload_digest,
                       evidence_digest=manifest.evidence_digest, compared_with=manifest.compared_with)


def _result(folder: Path, manifest: Manifest) -> dict[str, Any]:
    figures = json.loads((folder / names.EVIDENCE / "metrics.json").read_text())
    return {
        "release_id": manifest.release_id, "payload_digest": manifest.payload.payload_digest,
        "evidence_digest": manifest.evidence_digest, "evaluation": manifest.evidence_digest[:10],
        "compared_with": manifest.compared_with, "verdict": manifest.verdict, "failed_gates": manifest.failed_gates,
        "requests": figures["figures"]["requests"],
        NDCG: {name: values[NDCG] for name, values in figures["figures"]["systems"].items()},
        "recall_at_200": figures["figures"]["systems"][CANDIDATE]["recall_at_200"],
        "latency_ms": figures["latency_ms"].get(CANDIDATE),
    }

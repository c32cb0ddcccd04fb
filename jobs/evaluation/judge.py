"""Judges a sealed release on the night's own day: real shadow servers answer the judge's requests, figures and gates
follow, the evidence is written, the manifest last.

Nothing here changes what serves: the payload digest is checked before and named after, never made.
"""

import shutil
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import datetime
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from contracts import release as names
from contracts.errors import MarqueeError, UsageError
from contracts.marts import tag_name
from contracts.release import Manifest, Payload, Provenance, ReleaseSpec, State, digest, file_entry
from contracts.settings import Settings
from jobs.bootstrap import effective_size
from jobs.evaluation import eligible, gates, logged, record, requests, rules
from jobs.evaluation.case import Case, Corrected, Live, Replayed
from jobs.evaluation.changes import changes
from jobs.evaluation.config import JudgeConfig
from jobs.evaluation.curve import learning_curve
from jobs.evaluation.evidence import Evidence, GoldenShelf
from jobs.evaluation.figures import CANDIDATE, CORRECTED, LIVE, POPULARITY, RETRIEVAL, CatalogueFacts, Comparison, Lists
from jobs.evaluation.golden import Golden, golden_profiles
from jobs.evaluation.requests import Judged
from jobs.evaluation.shadow import Answer, replay, server
from jobs.runtime import log
from ledger import Ledger, open_ledger

ACTOR = "judge"
JUDGEABLE = (State.BUILT, State.JUDGED, State.BLOCKED, State.AWAITING_APPROVAL, State.EXPIRED)
LONGEST_POOL = 500
"""Of a baseline's order: as long as what retrieval hands to the ranker."""


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
        record.enter(ledger, standing, found.state, ACTOR)
    return record.result(folder, standing)


def _judge(
    settings: Settings, ledger: Ledger, folder: Path, payload: Payload, provenance: Provenance, live: Live, config: JudgeConfig
) -> Manifest:
    split, ds = provenance.tag.split, provenance.day
    slates = logged.load(settings, provenance.tag, tag_name(ds), config)
    judged, explored, state = requests.load_with_explored(settings, ds, tag_name(ds), split.judge_end, config, slates)
    titles = pq.read_table(folder / names.TITLES)
    spec = ReleaseSpec.model_validate_json((folder / names.SPEC).read_text())
    golden = golden_profiles(titles, spec.markets)
    moment = split.ranker_end + split.block / 2
    eligibility = eligible.EligibilityLog.read(ledger)
    if not eligibility.head:
        raise UsageError("the eligibility log is empty, so that nothing may be shown: run `marquee launches` first")
    with _member_state(settings, payload.release_id, state, golden, moment) as members:
        asked = [*judged, *explored]
        ours = _replay(settings, payload.release_id, members, asked, golden, moment, config, config.timed_requests)
        theirs = None
        if live.release_id:
            theirs = _replay(settings, live.release_id, members, asked if live.comparable else [], golden, moment, config)
    if max((answer.eligibility_seq for answer in ours.answers), default=0) > eligibility.head:
        eligibility = eligible.EligibilityLog.read(ledger)  # it grew while the shelves were computed

    systems = _systems(folder, asked, ours.answers, theirs.answers if theirs else [], eligibility, config)
    facts, title_ids = _facts(titles), titles["title_id"].to_pylist()
    counts = [_eligible(one, eligibility, title_ids) if one.corrected else 0 for one in asked]
    corrected = _corrected(asked, systems, counts, facts, slates.share_of(live.release_id), slates.explored, config)
    comparison = Comparison(judged, {name: lists[: len(judged)] for name, lists in systems.items()}, facts, config)
    ours = replace(ours, answers=ours.answers[: len(judged)])
    decided = rules.decide(Case(settings, folder, payload, provenance, spec, titles, judged, ours, live, eligibility, comparison,
                                corrected, config))
    times = {CANDIDATE: _times(ours.answers)} | ({LIVE: _times(theirs.answers)} if theirs and theirs.answers else {})
    evidence = Evidence(
        release_id=payload.release_id, day=ds, since=str(split.ranker_end.date()), payload_digest=payload.payload_digest, live=live.release_id,
        live_comparable=live.comparable, live_note=live.note, verdict=gates.verdict(decided), gates=decided,
        figures=comparison.as_json(), corrected=_corrected_json(corrected), health=_health(ours.answers, eligibility, judged),
        latency_ms={name: _latency(values) for name, values in times.items()},
        golden=_golden(golden, titles, ours.golden, theirs.golden if theirs else None),
        changes=changes(provenance, live.provenance), ranker=spec.ranker.model_dump(),
        curve=learning_curve(settings, payload.release_id),
    )
    entries = record.evidence_files(folder, evidence, times)
    return record.manifest(settings, folder, payload, evidence, entries, rules_digest(config))


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
    same = manifest.compared_with == live.release_id and manifest.annotations.get("judge") == rules_digest(config)
    return manifest if whole and (final or same) else None


def rules_digest(config: JudgeConfig) -> str:
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
    config: JudgeConfig, timed_requests: int = 0,
) -> Replayed:
    begin = time.monotonic()
    with server(settings, release_id, members, config.ready_seconds) as address:
        ready = time.monotonic() - begin
        shown = replay(address, [one.ask(moment) for one in golden], config.shelf_size, 1)
        answers = replay(address, [one.ask() for one in judged], config.shelf_size, config.client_threads)
        again = [one.ask(moment) for one in islice(cycle(golden), timed_requests)]
        timed = replay(address, again, config.shelf_size, 1)
    failed = [answer.error for answer in answers if answer.error]
    if failed:
        log.warning("%d of %d shelves of %s failed, first: %s", len(failed), len(answers), release_id, failed[0])
    return Replayed(answers, shown, timed, ready)


# --- figures --------------------------------------------------------------------------------------------------------

def _systems(
    folder: Path, judged: Sequence[Judged], ours: Sequence[Answer], theirs: Sequence[Answer],
    eligibility: eligible.EligibilityLog, config: JudgeConfig,
) -> dict[str, list[Lists | None]]:
    """The same requests by every system; a baseline sees what the candidate may show: eligible, not watched. The retrieval
    order is arranged as the candidate's shelf is: what variety costs is not held against the ranker."""
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
        unranked = eligible.allowed(answer.unranked, one, state, size)
        retrieved.append(None if answer.error else Lists(unranked, kept))
    return systems | {POPULARITY: popular, RETRIEVAL: retrieved}


def _lists(answer: Answer) -> Lists | None:
    return None if answer.error else Lists(answer.titles, answer.pool, answer.ranked)


def _corrected(
    asked: Sequence[Judged], systems: dict[str, list[Lists | None]], counts: Sequence[int], facts: CatalogueFacts,
    live_share: float, explored: Mapping[str, Mapping[str, float]], config: JudgeConfig,
) -> Corrected:
    """The same answers against the labels of `logged.py`; `counts`: how many titles each request could be shown."""
    rows = [i for i, one in enumerate(asked) if one.corrected]
    judged = [replace(asked[i], relevant=asked[i].corrected) for i in rows]
    answers = {name: [lists[i] and replace(lists[i], eligible=counts[i]) for i in rows] for name, lists in systems.items()}
    comparison = Comparison(judged, answers, facts, config, CORRECTED)
    count = sum(title in explored.get(one.profile_id, ()) for one in judged for title in one.relevant)
    weights = np.array([weight for one in judged for weight in one.relevant.values()])
    return Corrected(comparison, count, effective_size(weights), live_share)


def _eligible(one: Judged, log: eligible.EligibilityLog, title_ids: Sequence[str]) -> int:
    """How many titles the request could be shown; by the hour, as windows open and close."""
    return len(log.allowed(log.head, one.market, one.maturity_limit, one.at - one.at % 3600, title_ids) - one.watched)


def _corrected_json(corrected: Corrected) -> dict[str, Any] | None:
    """None where no label could be corrected."""
    if not corrected.comparison.judged:
        return None
    return corrected.comparison.as_json() | {
        "explored": corrected.explored, "effective": round(corrected.effective, 1), "live_share": round(corrected.live_share, 4)}


def _fallback(folder: Path) -> dict[tuple[str, str], list[str]]:
    orders: dict[tuple[str, str], list[str]] = {}
    table = pq.read_table(folder / names.FALLBACK, columns=["market", "cohort", "rank", "title_id"])
    for row in table.sort_by([("market", "ascending"), ("cohort", "ascending"), ("rank", "ascending")]).to_pylist():
        orders.setdefault((row["market"], row["cohort"]), []).append(row["title_id"])
    return orders


def _facts(titles: pa.Table) -> CatalogueFacts:
    ids = titles["title_id"].to_pylist()
    plays = [value or 0 for value in titles["plays_30d"].to_pylist()]
    most_played = [title for _, title in sorted(zip((-count for count in plays), ids))]
    launched = {title: requests.as_utc(moment).timestamp() for title, moment in zip(ids, titles["launched_at"].to_pylist()) if moment}
    genres = dict(zip(ids, (value or () for value in titles["genres"].to_pylist())))
    popular, tail = most_played[: max(1, len(ids) // 10)], most_played[len(ids) // 2 :]
    return CatalogueFacts(len(ids), genres, launched, frozenset(popular), frozenset(tail))


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

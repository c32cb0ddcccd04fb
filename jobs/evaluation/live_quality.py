"""`marquee live-quality`: what is live, on the day that landed, before tonight's candidate learns from it.

The same shadow server, requests and metrics as the judge's, of one release and a smaller sample; and the online rows
that members were served with against the training rows of the same profiles. Written once per release, night and arm.
"""

import math
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from contracts import release as names
from contracts.errors import MarqueeError
from contracts.marts import tag_name
from contracts.release import CONTROL_ARM, Provenance
from contracts.settings import Settings
from contracts.tags import TagRecord
from jobs.bootstrap import PairedBootstrap
from jobs.evaluation import live_plot, metrics, requests, skew
from jobs.evaluation.config import JudgeConfig
from jobs.evaluation.requests import Judged, MemberState
from jobs.evaluation.shadow import Answer, replay, server
from jobs.lake import read
from jobs.runtime import log, require_free_disk
from ledger import Ledger, open_ledger

SAMPLE = JudgeConfig(max_requests=250, bootstrap_samples=500, client_threads=2)
"""A fifth of what the judge asks: a trend over nights is looked at, not one night. Seconds on the demo world."""

METRICS = {
    "hr_at_10": lambda answer, wanted: metrics.hit_rate(answer.titles, wanted),
    "ndcg_at_10": lambda answer, wanted: metrics.ndcg(answer.titles, wanted),
    "recall_at_200": lambda answer, wanted: metrics.recall(answer.pool, wanted),
}


def run(settings: Settings, ds: str, config: JudgeConfig = SAMPLE) -> dict[str, Any]:
    """The figures of every arm's live release on night `ds`; those that were written before are returned as they are.

    An arm without a live release that can be scored on that day is skipped with the reason. MarqueeError where the live
    release's files are gone or its shadow server does not come up.
    """
    ledger = open_ledger(settings)
    live = {arm: release for arm in ledger.arms() if (release := _live(ledger, arm))}
    if not live:
        return {"ds": ds, "arms": {}, "skipped": "no release is live yet"}
    found: dict[str, dict[str, Any]] = {}
    todo: dict[str, Provenance] = {}
    for arm, release in live.items():
        kept = next((q for q in ledger.live_quality(release) if (q.ds, q.arm) == (ds, arm)), None)
        if kept:
            found[arm] = kept.figures | {"release_id": release}
            continue
        provenance = _provenance(settings, release)
        if provenance.tag.split.judge_end > read.tag_record(settings, ds).split.ranker_end:
            found[arm] = {"release_id": release, "skipped": f"{release} was built on {provenance.day}, so {ds} is not new to it"}
        else:
            todo[arm] = provenance
    if todo:
        require_free_disk(settings)
        found |= _measure_all(settings, ledger, ds, todo, config)
    result = {"ds": ds, "arms": found, "plot": live_plot.write(settings, ledger.live_quality())}
    skipped = [f"{arm}: {figures['skipped']}" for arm, figures in found.items() if "skipped" in figures]
    return result | ({"skipped": "; ".join(skipped)} if len(skipped) == len(found) else {})


def _measure_all(
    settings: Settings, ledger: Ledger, ds: str, todo: Mapping[str, Provenance], config: JudgeConfig
) -> dict[str, dict[str, Any]]:
    record = read.tag_record(settings, ds)
    judged, state = requests.load(settings, ds, tag_name(ds), record.split.judge_end, config)
    arm_of = _arms(settings, record, {one.profile_id for one in judged}) if len(todo) > 1 else {}
    served = skew.compare(settings, ds, state.requests)
    found = {}
    for arm, provenance in todo.items():
        mine = [one for one in judged if len(todo) == 1 or arm_of.get(one.profile_id, CONTROL_ARM) == arm]
        if not mine:
            found[arm] = {"release_id": provenance.release_id, "skipped": f"nobody of arm {arm} engaged with anything on {ds}"}
            continue
        answers = _ask(settings, ds, provenance.release_id, mine, state, config)
        figures = measure(settings, provenance, record, mine, answers, config) | {"skew": served}
        kept = ledger.keep_live_quality(provenance.release_id, ds, arm, figures)
        found[arm] = kept.figures | {"release_id": provenance.release_id}
        log.info("live quality of %s on %s (%s): recall@200 %.4f, NDCG@10 %.4f over %d requests", provenance.release_id, ds, arm,
                 kept.figures["recall_at_200"], kept.figures["ndcg_at_10"], len(mine))
    return found


def measure(
    settings: Settings, provenance: Provenance, record: TagRecord, judged: Sequence[Judged], answers: Sequence[Answer],
    config: JudgeConfig,
) -> dict[str, Any]:
    """All figures of one release over the judged requests; a request without an answer counts as 0."""
    titles = pq.read_table(settings.releases / provenance.release_id / names.TITLES, columns=["title_id", "id_index"])
    learnt = set(titles.filter(pc.greater(titles["id_index"], 0))["title_id"].to_pylist())
    answered = [answer for answer in answers if answer.error is None]
    values = {
        name: np.array([0.0 if answer.error else rule(answer, one.relevant) for one, answer in zip(judged, answers, strict=True)])
        for name, rule in METRICS.items()
    }
    bootstrap = PairedBootstrap([one.profile_id for one in judged], config.bootstrap_samples, config.seed)
    wanted = [title for one in judged for title in one.relevant]
    pools = [len(answer.pool) for answer in answered] or [0]
    last = record.last
    return {
        "requests": len(judged), "profiles": len({one.profile_id for one in judged}),
        "failed": len(answers) - len(answered), "degraded": sum(bool(answer.degraded) for answer in answered),
        **{name: round(float(found.mean()), 6) for name, found in values.items()},
        "bounds": {name: [round(bound, 6) for bound in bootstrap.bounds(found)] for name, found in values.items()},
        "pool": {"min": min(pools), "p5": float(np.percentile(pools, 5)), "median": float(np.median(pools))},
        "coverage_at_10": round(metrics.coverage([answer.titles for answer in answered], titles.num_rows), 6),
        "unlearnt_share": round(sum(title not in learnt for title in wanted) / len(wanted), 6),
        "latency_ms": {f"p{q}": round(float(np.percentile([a.milliseconds for a in answered], q)), 1) for q in (50, 99)} if answered else {},
        "age_days": _days(last, provenance.day), "models_age_days": _days(last, provenance.trained_day),
        "trained_by": provenance.trained_by, "trained_day": provenance.trained_day,
    }


def _ask(
    settings: Settings, ds: str, release: str, judged: Sequence[Judged], state: MemberState, config: JudgeConfig
) -> list[Answer]:
    """The member state holds rows of members, so it does not outlive the server."""
    folder = settings.work / release / f"live-quality-{ds}"
    try:
        state.write(folder, (), judged[0].moment)
        with server(settings, release, folder, config.ready_seconds) as address:
            answers = replay(address, [one.ask() for one in judged], config.shelf_size, config.client_threads)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if failed := [answer.error for answer in answers if answer.error]:
        log.warning("%d of %d shelves of %s failed, first: %s", len(failed), len(answers), release, failed[0])
    return answers


def _arms(settings: Settings, record: TagRecord, profiles: set[str]) -> dict[str, str]:
    """The arm in which each profile was shown something on the night's days."""
    if not record.has_impressions:
        return {}
    shown = read.table(settings, "marts.fct_impression", tag_name(record.ds), ("profile_id", "arm"),
                       f"event_day >= '{record.first}' and event_day <= '{record.last}'")
    shown = shown.filter(pc.is_in(shown["profile_id"], pa.array(sorted(profiles), pa.string())))
    pairs = shown.group_by(["profile_id", "arm"]).aggregate([]).sort_by([("profile_id", "ascending"), ("arm", "ascending")])
    return {row["profile_id"]: row["arm"] or CONTROL_ARM for row in pairs.to_pylist()}


def _live(ledger: Ledger, arm: str) -> str | None:
    """While a swap is being probed, that is still the release before."""
    pointer = ledger.pointer(arm)
    return pointer.previous if pointer.phase == "probing" else pointer.release_id


def _provenance(settings: Settings, release: str) -> Provenance:
    path: Path = settings.releases / release / names.PROVENANCE
    try:
        return Provenance.model_validate_json(path.read_text())
    except FileNotFoundError:
        raise MarqueeError(f"the live release {release} has no {path}: restore it, or roll back") from None


def _days(last, day: str) -> int:
    return (last - type(last).fromisoformat(day)).days


def history(settings: Settings) -> list[dict[str, Any]]:
    """Every night that was measured, oldest first."""
    return [{"ds": q.ds, "arm": q.arm, "release_id": q.release_id, "at": q.at, **q.figures} for q in open_ledger(settings).live_quality()]


def as_text(nights: Sequence[Mapping[str, Any]]) -> str:
    """A table for a person."""
    if not nights:
        return "no night has been measured yet: `marquee live-quality --ds DAY`, or run `nightly` with a live release"
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in ("night", "arm", "release", "requests", "recall@200", "NDCG@10", "pool p5", "coverage@10", "skewed", "age"):
        table.add_column(column)
    for night in nights:
        skewed = night["skew"].get("skewed_share")
        table.add_row(night["ds"], night["arm"], night["release_id"], str(night["requests"]), _with_bounds(night, "recall_at_200"),
                      _with_bounds(night, "ndcg_at_10"), f"{night['pool']['p5']:.0f}", f"{night['coverage_at_10']:.3f}",
                      "-" if skewed is None else f"{skewed:.1%}", f"{night['age_days']} d, models {night['models_age_days']} d")
    console = Console(width=200)
    with console.capture() as capture:
        console.print(table)
    return capture.get().rstrip()


def _with_bounds(night: Mapping[str, Any], name: str) -> str:
    low, high = night["bounds"][name]
    return f"{night[name]:.4f}" if math.isnan(low) else f"{night[name]:.4f} ({low:.4f} to {high:.4f})"

"""The night's data against earlier nights of the same length, and its features against what the live release learnt from.

A figure fails only beyond what earlier nights did and what chance does: with few rows or few nights there is little to
say, and it is said.
"""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from contracts import release as names
from contracts.eligibility import Eligibility, Record
from contracts.errors import UsageError
from contracts.marts import INGESTS, PROFILE_FEATURES, TITLE_FEATURES, tag_name
from contracts.settings import Settings
from jobs.distribution import SAMPLE_NOISE, Distribution, Feature, describe, moved, psi
from jobs.evaluation import gates as gate
from jobs.evaluation.case import Case
from jobs.evaluation.gates import Gate
from jobs.evaluation.rules.index import Index
from jobs.lake import read

LATE = timedelta(days=1)
SIGMAS = 4.0
"""Of a count's or a share's own noise, allowed for on top of every threshold."""
EVENTS = {"plays": "fct_play", "impressions": "fct_impression"}
FILLED = {"plays": ("watched_seconds", "completion", "rating", "slate_id", "device", "surface"),
          "impressions": ("position", "propensity", "device", "surface")}
MEASURED = ("watched_seconds", "completion")
DECLARED = ("market", "is_kids", "maturity_limit", "preferred_genres", "language", "device")
LEAST_POSITIVES = 30


@dataclass(frozen=True)
class Blocks:
    """Rows of one event mart that arrived tonight, and in each earlier block of the same length, newest first."""

    tonight: pa.Table
    earlier: Sequence[pa.Table]


def gates(case: Case, index: Index) -> Iterator[Gate]:
    for events in EVENTS:
        blocks = _blocks(case, events)
        yield _volume(case, events, blocks)
        yield _filled(case, events, blocks)
        yield _late(case, events, blocks)
        if events == "plays":
            yield _measured(case, blocks)
    yield from _counted(case)
    yield from _against_live(case)
    yield _known_before(case)
    yield _fresh(case)
    yield _leak(case)
    yield _eligibility(case)


# --- against earlier nights -----------------------------------------------------------------------------------------

def _blocks(case: Case, events: str) -> Blocks | None:
    """None where the lake has no such rows: a source need not bring impressions. The oldest block that has rows is left
    out: it may have begun before they did."""
    split, config = case.provenance.tag.split, case.config
    if events == "impressions" and not case.provenance.tag.has_impressions:
        return None
    starts = [split.judge_end - i * split.block for i in range(1, config.earlier_blocks + 3)]
    columns = ("profile_id", "event_time", "known_at", *FILLED[events])
    try:
        rows = read.table(case.settings, f"marts.{EVENTS[events]}", tag_name(case.provenance.day), columns,
                          f"known_at >= '{starts[-1].isoformat()}' and known_at < '{split.judge_end.isoformat()}'")
    except UsageError:
        return None
    oldest = pc.min(rows["known_at"]).as_py()
    tonight, *earlier = [
        rows.filter(_between(rows["known_at"], start, start + split.block))
        for i, start in enumerate(starts) if i == 0 or (oldest and start >= oldest)
    ]
    return Blocks(tonight, earlier)


def _between(column: pa.ChunkedArray, start, end) -> pa.ChunkedArray:
    kind = column.type
    return pc.and_(pc.greater_equal(column, pa.scalar(start, kind)), pc.less(column, pa.scalar(end, kind)))


def _nothing_before(case: Case, blocks: Blocks | None, events: str) -> str:
    if blocks is None:
        return f"the source brings no {events}"
    if len(blocks.earlier) < case.config.min_earlier_blocks:
        return f"{len(blocks.earlier)} earlier nights of this length, {case.config.min_earlier_blocks} needed"
    return ""


def _volume(case: Case, events: str, blocks: Blocks | None) -> Gate:
    name, factor = f"{events}_volume", case.config.volume_factor
    rule = f"{events} of the night between 1/{factor:g} of the least and {factor:g} times the most of earlier nights"
    if why_not := _nothing_before(case, blocks, events):
        return gate.not_applicable(name, "data", rule, why_not)
    counts, now = [len(rows) for rows in blocks.earlier], len(blocks.tonight)
    low = min(counts) / factor - SIGMAS * math.sqrt(min(counts))
    high = max(counts) * factor + SIGMAS * math.sqrt(max(counts))
    reason = f"{now} {events}, {min(counts)} to {max(counts)} in {len(counts)} earlier nights"
    if now < low:
        return gate.at_least(name, "data", rule, now, round(low, 1), reason)
    return gate.below(name, "data", rule, now, round(high, 1), reason)


def _filled(case: Case, events: str, blocks: Blocks | None) -> Gate:
    name = f"{events}_filled"
    rule = f"no column of {events} filled {case.config.filled_drop:.0%} less than in the least filled earlier night"
    if why_not := _nothing_before(case, blocks, events):
        return gate.not_applicable(name, "data", rule, why_not)
    drops = {}
    for column in FILLED[events]:
        shares = [_share(rows[column]) for rows in blocks.earlier if len(rows)]
        drops[column] = min(shares, default=0.0) - _share(blocks.tonight[column]) - _noise(min(shares, default=0.0), len(blocks.tonight))
    worst = max(drops, key=drops.__getitem__)
    reason = f"{worst} is filled in {_share(blocks.tonight[worst]):.1%} of {len(blocks.tonight)} rows"
    return gate.below(name, "data", rule, round(max(drops.values()), 6), case.config.filled_drop, reason)


def _late(case: Case, events: str, blocks: Blocks | None) -> Gate:
    name, config = f"{events}_late", case.config
    rule = f"share of {events} that arrived over a day after they happened at most {config.share_factor:g} times the highest earlier"
    if why_not := _nothing_before(case, blocks, events):
        return gate.not_applicable(name, "data", rule, why_not)
    shares = [_late_share(rows) for rows in blocks.earlier]
    return _share_gate(case, name, rule, _late_share(blocks.tonight), shares, len(blocks.tonight))


def _late_share(rows: pa.Table) -> float:
    late = pc.greater(pc.subtract(rows["known_at"], rows["event_time"]), pa.scalar(LATE, pa.duration("us")))
    return (pc.sum(late).as_py() or 0) / max(1, len(rows))


def _measured(case: Case, blocks: Blocks | None) -> Gate:
    """A unit that flips, or a clock that stops, moves the distribution of what was measured."""
    name, rule = "plays_drift", f"what plays measure is distributed as in earlier nights (PSI at most {case.config.drift_psi:g} beyond noise and their own)"
    if why_not := _nothing_before(case, blocks, "plays"):
        return gate.not_applicable(name, "data", rule, why_not)
    was = describe(pa.concat_tables(blocks.earlier).select(MEASURED))
    usual = [_shifts(was, rows) for rows in blocks.earlier]
    now = _shifts(was, blocks.tonight)
    beyond = {c: now[c] - max(0.0, *(shifts[c] for shifts in usual)) for c in MEASURED}
    return _drift_gate(case, name, rule, beyond, "earlier nights")


def _shifts(was: Distribution, rows: pa.Table) -> dict[str, float]:
    """Column -> PSI beyond noise; the plays of one profile are not independent, so profiles are counted."""
    now, units = describe(rows.select(MEASURED), reference=was), len(pc.unique(rows["profile_id"]))
    return {c: _shift(was.features[c], now.features[c], units) for c in MEASURED}


def _counted(case: Case) -> Iterator[Gate]:
    """What ingest wrote down of its last interval, against the intervals before."""
    try:
        ingests = read.table(case.settings, INGESTS).sort_by("sequence").to_pylist()
    except UsageError:
        ingests = []
    missing = f"{INGESTS} has no interval that ends on this night"
    night = str(case.provenance.tag.last)
    known = [i for i in ingests if str(i["last"]) <= night]
    for name, what in (("duplicates", "duplicates"), ("quarantined", "quarantined")):
        rule = f"share of {what[:-1] if what.endswith('s') else what} records of each table at most {case.config.share_factor:g} times the highest earlier"
        if not known or str(known[-1]["last"]) != night:
            yield gate.not_applicable(name, "data", rule, missing)
            continue
        yield _worst_table(case, name, rule, what, [json.loads(i["counts"]) for i in known])


def _worst_table(case: Case, name: str, rule: str, what: str, counts: Sequence[dict]) -> Gate:
    found = []
    for table, row in counts[-1].items():
        earlier = [c[table][what] / c[table]["landed"] for c in counts[:-1] if c.get(table, {}).get("landed")]
        if row["landed"]:
            found.append(_share_gate(case, name, rule, row[what] / row["landed"], earlier, row["landed"], f" of {table}"))
    if not found:
        return gate.not_applicable(name, "data", rule, "nothing landed")
    return max(found, key=lambda g: g.figure - g.threshold)


def _share_gate(case: Case, name: str, rule: str, now: float, earlier: Sequence[float], rows: int, of: str = "") -> Gate:
    """A share against the highest earlier one; below the floor it is never too much."""
    limit = max(case.config.share_floor, case.config.share_factor * max(earlier, default=0.0))
    limit += _noise(limit, rows)
    before = f", at most {max(earlier):.1%} in {len(earlier)} earlier nights" if earlier else ""
    return gate.below(name, "data", rule, round(now, 6), round(limit, 6), f"{now:.1%} of {rows} rows{of}{before}")


def _noise(share: float, rows: int) -> float:
    return SIGMAS * math.sqrt(max(share * (1 - share), 0.0) / max(rows, 1))


def _share(column: pa.ChunkedArray) -> float:
    return 1 - column.null_count / len(column) if len(column) else 0.0


# --- against what the live release learnt from ----------------------------------------------------------------------

def _against_live(case: Case) -> Iterator[Gate]:
    """Title features of the two releases' files (a row a title), and profile features of their judged requests (a row a
    profile): rows that are independent of each other, so that noise can be allowed for."""
    rules = {"features_filled": f"no feature filled {case.config.filled_drop:.0%} less than in the live release's training",
             "features_drift": f"no feature's distribution moved by more than PSI {case.config.drift_psi:g} beyond noise"}
    try:
        pairs = _features(case)
    except UsageError as error:
        pairs, case_note = [], str(error)
    else:
        case_note = case.live.note
    if not pairs:
        for name, rule in rules.items():
            yield gate.not_applicable(name, "data", rule, case_note)
        return
    drops, shifts = {}, {}
    for was_rows, now_rows in pairs:
        was = describe(was_rows)
        now = describe(now_rows, reference=was)
        for column, feature in was.features.items():
            drops[column] = feature.filled - now.features[column].filled - _noise(feature.filled, min(was.rows, now.rows))
            shifts[column] = _shift(feature, now.features[column], now.rows)
    worst = max(drops, key=drops.__getitem__)
    yield gate.below("features_filled", "data", rules["features_filled"], round(max(0.0, drops[worst]), 6), case.config.filled_drop,
                     f"{len(drops)} features; {worst} lost most")
    yield _drift_gate(case, "features_drift", rules["features_drift"], shifts, "the live release's training")


def _features(case: Case) -> list[tuple[pa.Table, pa.Table]]:
    """(live's, candidate's) rows of the same features; empty where nothing is live."""
    if case.live.provenance is None:
        return []
    titles = pq.read_table(case.settings.releases / case.live.release_id / names.TITLES)
    days = (case.live.provenance.day, case.provenance.day)
    profiles = [_one_a_profile(read.training(case.settings, "requests", day, role="judge")) for day in days]
    columns = [c for c in (*PROFILE_FEATURES, *DECLARED) if c != "last_play_at"]
    return [(titles.select(TITLE_FEATURES), case.titles.select(TITLE_FEATURES)),
            (profiles[0].select(columns), profiles[1].select(columns))]


def _one_a_profile(requests: pa.Table) -> pa.Table:
    requests = requests.sort_by([("profile_id", "ascending"), ("event_time", "ascending"), ("request_id", "ascending")])
    ids = requests["profile_id"].to_pylist()
    return requests.take([i for i, profile in enumerate(ids) if i == 0 or ids[i - 1] != profile])


def _shift(was: Feature, now: Feature, units: int) -> float:
    """PSI beyond the noise of that many independent rows; 0 where no decile moved."""
    if not was.shares or not now.shares or not moved(was, now):
        return 0.0
    noise = SAMPLE_NOISE * (len(was.shares) - 1) * (1 / max(min(was.rows, units), 1) + 1 / max(min(now.rows, units), 1))
    return psi(was.shares, now.shares, floor=1 / (2 * max(was.rows, now.rows, 1))) - noise


def _drift_gate(case: Case, name: str, rule: str, shifts: dict[str, float], than: str) -> Gate:
    moved = sorted((c for c in shifts if shifts[c] > case.config.drift_psi), key=shifts.__getitem__, reverse=True)
    worst = max(shifts, key=shifts.__getitem__)
    said = f"{', '.join(moved[:5])} moved from {than}" if moved else f"{len(shifts)} looked at; {worst} moved most from {than}"
    return gate.below(name, "data", rule, round(max(0.0, shifts[worst]), 6), case.config.drift_psi, said)


# --- invariants of the training rows --------------------------------------------------------------------------------

def _known_before(case: Case) -> Gate:
    """DESIGN's invariant 4, on every row that somebody learns from or is judged by."""
    name, rule = "features_known_before", "no feature is stamped after the request that it describes"
    requests = read.training(case.settings, "requests", case.provenance.day,
                             columns=("request_id", "event_time", "profile_features_at"))
    late = pc.greater(requests["profile_features_at"], requests["event_time"])
    wrong, looked_at = pc.sum(late).as_py() or 0, len(requests) - requests["profile_features_at"].null_count
    if case.provenance.tag.has_impressions:
        shown = read.training(case.settings, "impressions", case.provenance.day, columns=("request_id", "title_features_at"))
        shown = shown.join(requests.select(["request_id", "event_time"]), "request_id", join_type="left outer")
        wrong += pc.sum(pc.greater(shown["title_features_at"], shown["event_time"])).as_py() or 0
        looked_at += len(shown)
    if not looked_at:
        return gate.not_applicable(name, "data", rule, "no training row has features", overridable=False)
    return gate.at_most(name, "data", rule, wrong, 0, looked_at, "rows", False)


def _fresh(case: Case) -> Gate:
    """Snapshots are written where something changed, so single rows may be old; the newest of all may not."""
    split = case.provenance.tag.split
    name, rule = "features_fresh", "the newest profile features are at most two blocks older than the judged block"
    stamps = read.training(case.settings, "requests", case.provenance.day, role="judge", columns=("profile_features_at",))
    newest = pc.max(stamps["profile_features_at"])
    if not newest.is_valid:
        return gate.not_applicable(name, "data", rule, "no judged profile has features")
    age = (split.ranker_end - newest.as_py()) / split.block
    return gate.below(name, "data", rule, round(max(0.0, age), 3), 2.0, f"newest are of {newest.as_py():%Y-%m-%d %H:%M}")


def _leak(case: Case) -> Gate:
    """A column from after the request tells its outcome better than anything known before could."""
    name = "no_leaked_label"
    rule = f"no single feature tells the ranker's label with an AUC of {case.config.leak_auc:g} or more, either way"
    if not case.provenance.tag.has_impressions:
        return gate.not_applicable(name, "data", rule, "the source brings no impressions")
    rows = read.training(case.settings, "impressions", case.provenance.day, columns=("engagement", *TITLE_FEATURES))
    engaged_N = pc.greater(pc.fill_null(rows["engagement"], 0), 0).to_numpy()
    if engaged_N.sum() < LEAST_POSITIVES or (~engaged_N).sum() < LEAST_POSITIVES:
        return gate.not_applicable(name, "data", rule, f"{int(engaged_N.sum())} of {len(rows)} impressions were engaged with")
    aucs = {column: _auc(rows[column], engaged_N) for column in TITLE_FEATURES}
    best = max(aucs, key=aucs.__getitem__)
    return gate.below(name, "data", rule, round(aucs[best], 4), case.config.leak_auc, f"{best} tells most", overridable=False)


def _auc(column: pa.ChunkedArray, engaged_N: np.ndarray) -> float:
    """Area under the curve, ties counted half (Mann & Whitney, 1947), of the better direction; unknown is lowest."""
    from scipy.stats import rankdata

    values = pc.fill_null(column.cast(pa.float64()), -np.inf).to_numpy()
    ranks, positives = rankdata(values), int(engaged_N.sum())
    auc = (ranks[engaged_N].sum() - positives * (positives + 1) / 2) / (positives * (len(values) - positives))
    return float(max(auc, 1 - auc))


# --- eligibility, by two ways from the source ------------------------------------------------------------------------

def _eligibility(case: Case) -> Gate:
    """The index is made from the marts, the guard reads the log; both come from what landed, by different ways."""
    name = "eligibility_agrees"
    rule = f"marts and eligibility log differ on at most {case.config.eligibility_disagrees:.0%} of what may be shown"
    split = case.provenance.tag.split
    at, titles = int(split.judge_end.timestamp()) - 1, case.titles["title_id"].to_pylist()
    try:
        marts = _of_marts(case.settings, case, titles)
    except UsageError as error:
        return gate.not_applicable(name, "data", rule, str(error))
    log = case.night_log.at(case.night_log.head)
    pairs = sorted({*marts.windows, *log.windows})
    mine, theirs = ({pair for pair in pairs if state.why_not(*pair, 18, at) is None and pair[0] in marts.maturity} for state in (marts, log))
    differing, either = mine ^ theirs, mine | theirs
    if not either:
        return gate.below(name, "data", rule, 1.0, case.config.eligibility_disagrees, "neither allows any title anywhere")
    return gate.below(name, "data", rule, round(len(differing) / len(either), 6), case.config.eligibility_disagrees,
                      f"{len(mine)} (title, market) pairs by the marts, {len(theirs)} by the log, {len(differing)} differ")


def _of_marts(settings: Settings, case: Case, titles: Sequence[str]) -> Eligibility:
    """Newest versions known by the end of the night; maturity as the release's own titles say it."""
    tag, end = tag_name(case.provenance.day), case.provenance.tag.split.judge_end
    windows = read.table(settings, "marts.dim_licence_window", tag, row_filter=f"known_at < '{end.isoformat()}'")
    state, seq = Eligibility(), 0
    records = [Record(0, "title", title, maturity=m) for title, m in zip(titles, case.titles["maturity"].to_pylist(), strict=True)]
    for row in windows.sort_by("known_at").to_pylist():
        if row["superseded_at"] is None or row["superseded_at"] >= end:
            closes = {} if row["closes_at"] is None else {"closes_at": int(row["closes_at"].timestamp())}
            records.append(Record(0, "licence", row["title_id"], window_id=row["window_id"], market=row["market"],
                                  opens_at=int(row["opens_at"].timestamp()), revoked=bool(row["revoked"]), **closes))
    for seq, record in enumerate(records, 1):
        state.apply([Record(**{**vars(record), "seq": seq})])
    return state

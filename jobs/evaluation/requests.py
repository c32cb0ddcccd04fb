"""The requests that are judged: a stable sample of training.requests (role judge), what was known of each, and the
member state that the shadow server hydrates from.
"""

import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from contracts.settings import Settings
from jobs.evaluation.config import JudgeConfig
from jobs.evaluation.golden import Golden
from jobs.evaluation.logged import LoggedSlates
from jobs.evaluation.shadow import Ask
from jobs.lake import read

PLAY_COLUMNS = ("profile_id", "title_id", "event_time", "known_at", "completion", "rating", "engaged")


@dataclass(frozen=True)
class Judged:
    """One judged request: who asked when, what was engaged with afterwards, and what had been watched before."""

    request_id: str
    profile_id: str
    moment: datetime
    market: str
    is_kids: bool
    maturity_limit: int
    device: str
    surface: str
    relevant: Mapping[str, int]
    watched: frozenset[str]
    history: tuple[str, ...]  # oldest first
    corrected: Mapping[str, float] = field(default_factory=dict)  # title to weight: see logged.py

    @property
    def at(self) -> int:
        """Epoch seconds, as the eligibility rules take them."""
        return int(self.moment.timestamp())

    def ask(self) -> Ask:
        return Ask(self.request_id, self.profile_id, self.moment, self.device, self.surface)


@dataclass(frozen=True)
class MemberState:
    """Rows of members, in memory; written only for as long as a shadow server runs."""

    requests: pa.Table
    plays: pa.Table

    def write(self, folder: Path, golden: Sequence[Golden], moment: datetime) -> None:
        """profiles.parquet and plays.parquet, the golden profiles' rows beside the members'."""
        folder.mkdir(parents=True, exist_ok=True)
        rows = [one.request_row(moment, self.requests.schema) for one in golden]
        pq.write_table(pa.concat_tables([self.requests, pa.Table.from_pylist(rows, self.requests.schema)]),
                       folder / "profiles.parquet")
        plays = self.plays.select(PLAY_COLUMNS)
        watched = [row for one in golden for row in one.play_rows(moment)]
        pq.write_table(pa.concat_tables([plays, pa.Table.from_pylist(watched, plays.schema)]), folder / "plays.parquet")


def load(settings: Settings, ds: str, tag: str, judge_end: datetime, config: JudgeConfig) -> tuple[list[Judged], MemberState]:
    """The sampled requests with something to find, sorted by id, and the state of their profiles up to `judge_end`.

    What a profile had engaged with before the request is left out of what is relevant: no shelf shows it again.
    """
    judged, _, state = load_with_explored(settings, ds, tag, judge_end, config, LoggedSlates())
    return judged, state


def load_with_explored(
    settings: Settings, ds: str, tag: str, judge_end: datetime, config: JudgeConfig, logged: LoggedSlates
) -> tuple[list[Judged], list[Judged], MemberState]:
    """`load`, and beside the sample what `logged` says: the requests to answer for it, with the corrected labels that
    `Judged.corrected` has. Exploration slots are few, so every profile that engaged with one is asked for, up to
    `max_requests`; ranked places are looked at in the sample only, and weigh the more."""
    everyone = read.training(settings, "requests", ds, role="judge")
    sampled = sample(everyone, config)
    share = sampled.num_rows / max(1, everyone.num_rows)
    chosen = frozenset(sampled["request_id"].to_pylist())
    also = everyone.filter(pc.and_(pc.is_in(everyone["profile_id"], pa.array(sorted(logged.explored), pa.string())),
                                   pc.invert(pc.is_in(everyone["request_id"], sampled["request_id"].combine_chunks()))))
    requests = pa.concat_tables([sampled, sample(also, config)])
    plays = read.table(settings, "marts.fct_play", tag=tag, columns=[*PLAY_COLUMNS, "event_id"])
    mine = pc.is_in(plays["profile_id"], pc.unique(requests["profile_id"]))
    before_end = pc.less(plays["event_time"], pa.scalar(judge_end, plays.schema.field("event_time").type))
    plays = plays.filter(pc.and_(mine, before_end)).sort_by(
        [("profile_id", "ascending"), ("event_time", "ascending"), ("event_id", "ascending")])
    by_profile: dict[str, list[dict]] = {}
    for play in plays.select(["profile_id", "title_id", "event_time", "known_at", "engaged"]).to_pylist():
        by_profile.setdefault(play["profile_id"], []).append(play)
    judged, explored = [], []
    for row in requests.to_pylist():
        one = _judged(row, by_profile.get(row["profile_id"], ()))
        inside = row["request_id"] in chosen
        labels = logged.labels(one.profile_id, 1 / share if inside else 0.0)
        one = replace(one, corrected={title: weight for title, weight in labels.items() if title not in one.watched})
        if inside and one.relevant:
            judged.append(one)
        elif one.corrected:
            explored.append(one)
    return judged, explored, MemberState(requests, plays)


def sample(requests: pa.Table, config: JudgeConfig) -> pa.Table:
    """At most `max_requests`, by a stable hash of the profile, sorted by request id."""
    requests = requests.sort_by([("request_id", "ascending")])
    if requests.num_rows <= config.max_requests:
        return requests
    keys = [(zlib.crc32(f"{config.seed}:{profile}".encode()), i) for i, profile in enumerate(requests["profile_id"].to_pylist())]
    return requests.take(sorted(i for _, i in sorted(keys)[: config.max_requests]))


def _judged(row: Mapping, plays: Iterable[Mapping]) -> Judged:
    moment = as_utc(row["event_time"])
    before = [p for p in plays if as_utc(p["event_time"]) < moment and as_utc(p["known_at"]) < moment]
    watched = frozenset(p["title_id"] for p in before if p["engaged"])
    relevant = dict(zip(row["relevant_titles"] or (), row["relevant_gains"] or ()))
    return Judged(
        row["request_id"], row["profile_id"], moment, row["market"] or "", bool(row["is_kids"]), row["maturity_limit"] or 0,
        row["device"] or "", row["surface"] or "home",
        {title: gain for title, gain in relevant.items() if gain > 0 and title not in watched}, watched,
        tuple(p["title_id"] for p in before),
    )


def as_utc(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)

"""Everything that was seen of one candidate: what the rules decide on, and nothing that they change."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pyarrow as pa

from contracts.release import Payload, Provenance, ReleaseSpec
from contracts.settings import Settings
from jobs.evaluation.config import JudgeConfig
from jobs.evaluation.eligible import EligibilityLog
from jobs.evaluation.figures import Comparison
from jobs.evaluation.requests import Judged
from jobs.evaluation.shadow import Answer


@dataclass(frozen=True)
class Live:
    """The live release as the candidate's judge sees it."""

    release_id: str | None
    provenance: Provenance | None
    comparable: bool
    note: str


@dataclass(frozen=True)
class Replayed:
    """One release's answers: to the judged requests (empty where it is not compared), to the golden profiles, and to
    the golden profiles again, many times, one after the other; and how long its server took to be ready."""

    answers: list[Answer]
    golden: list[Answer]
    timed: list[Answer]
    load_seconds: float


@dataclass(frozen=True)
class Corrected:
    """The comparison on labels that no ranking chose (logged.py): how many engagements in exploration slots it has, their
    effective sample size with the others', and how much of the judged slates the live release had ranked."""

    comparison: Comparison
    explored: int
    effective: float
    live_share: float


@dataclass(frozen=True)
class Case:
    settings: Settings
    folder: Path
    payload: Payload
    provenance: Provenance
    spec: ReleaseSpec
    titles: pa.Table
    judged: Sequence[Judged]
    ours: Replayed
    live: Live
    eligibility: EligibilityLog
    comparison: Comparison
    corrected: Corrected
    config: JudgeConfig

    @cached_property
    def title_ids(self) -> list[str]:
        return self.titles["title_id"].to_pylist()

    @cached_property
    def night_log(self) -> EligibilityLog:
        """What the index was made from; a closure since then is the guard's to hold, not the candidate's fault."""
        return self.eligibility.known_by(self.provenance.tag.split.judge_end)

    @property
    def answered(self) -> list[Answer]:
        return [answer for answer in self.ours.answers if answer.error is None]

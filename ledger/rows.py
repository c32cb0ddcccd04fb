"""What the ledger answers."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from contracts.release import State

Phase = Literal["live", "probing"]


@dataclass(frozen=True)
class ReleaseRow:
    release_id: str
    day: str
    state: State
    payload_digest: str | None
    evidence_digest: str | None
    compared_with: str | None
    created_at: datetime


@dataclass(frozen=True)
class Transition:
    """Who did what, when and why. `from_state` is None for the first one."""

    release_id: str
    at: datetime
    actor: str
    from_state: State | None
    to_state: State
    reason: str
    details: dict[str, Any]


@dataclass(frozen=True)
class Pointer:
    """What an arm serves. Phase `live` with a `candidate`: replicas should load it and say so. Phase `probing`:
    `release_id` is the candidate already, `previous` where to return; past `deadline` (wall time) whoever runs next
    returns. `release_id` is None until the first release goes live.
    """

    arm: str
    release_id: str | None
    previous: str | None
    phase: Phase
    candidate: str | None
    version: int
    deadline: datetime | None


@dataclass(frozen=True)
class LiveQuality:
    """How well the release that `arm` had live did on day `ds`, which it had not seen."""

    release_id: str
    ds: str
    arm: str
    at: datetime
    figures: dict[str, Any]


@dataclass(frozen=True)
class Decision:
    """What night `ds` does: `retrain`, or `refresh` with the models of `base`."""

    ds: str
    action: Literal["retrain", "refresh"]
    base: str | None
    reason: str
    actor: str
    at: datetime


@dataclass(frozen=True)
class Replica:
    """A serving process with an unexpired lease: what it has loaded, what it serves."""

    replica_id: str
    address: str
    loaded: list[str]
    serving: str | None
    expires_at: datetime

"""What an approver is shown, as one typed value; the card, the report and the JSON files are views of it."""

from typing import Any

from pydantic import BaseModel

from jobs.evaluation.changes import Changes
from jobs.evaluation.gates import FAILED, Gate


class GoldenShelf(BaseModel):
    """A synthetic profile's shelf before (the live release) and after (the candidate); names that a person can read."""

    profile: str
    says: str
    market: str
    watched: list[str]
    before: list[str] | None
    after: list[str]


class Evidence(BaseModel):
    release_id: str
    day: str
    since: str = ""  # first day of the judged interval
    payload_digest: str
    live: str | None
    live_comparable: bool
    live_note: str
    verdict: str
    gates: list[Gate]
    figures: dict[str, Any]
    corrected: dict[str, Any] | None = None
    health: dict[str, Any]
    latency_ms: dict[str, dict[str, float]]
    golden: list[GoldenShelf]
    changes: Changes
    ranker: dict[str, Any]
    curve: dict[str, list[float]]

    @property
    def fair(self) -> dict[str, Any]:
        """The figures that the quality gates were decided on: corrected ones where live ranked the judged slates."""
        return self.corrected if self.corrected and self.corrected["live_share"] else self.figures

    @property
    def failed(self) -> list[Gate]:
        return [gate for gate in self.gates if gate.verdict == FAILED]

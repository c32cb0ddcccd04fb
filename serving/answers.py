"""The API's answers, as its documentation describes them."""

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, Field


class ShelfTitle(BaseModel):
    """One title on a shelf."""

    position: int = Field(description="place on the shelf, from 1", examples=[1])
    title_id: str = Field(examples=["t000042"])
    name: str = Field(description="what a person reads; the id where the release does not know the title yet")
    score: float | None = Field(description="the ranking score; null for a title that only fills the shelf")
    retrieval_score: float | None = Field(description="nearness of the title to the member, -1 to 1")
    transition_score: float | None = Field(description="how often others watched it after the member's newest titles")
    cowatch_score: float | None = Field(description="how much others who watched the member's titles watch it")
    source: Literal["retrieval", "transition", "fallback", "launch", "explore"] = Field(
        description="which source proposed it; launch: it just arrived, and has this place whatever its score")


class DebugPool(BaseModel):
    """The guarded candidates in retrieval order; only in shadow mode."""

    title_ids: list[str]
    retrieval_scores: list[float]
    ranker_scores: list[float]
    unranked: list[str] = Field(description="the shelf without the ranker: the retrieval order, arranged just the same")


class ShelfAnswer(BaseModel):
    """A home screen's titles. Computed by exactly one release, on one state of the eligibility log."""

    request_id: str = Field(description="this request, in logs and metrics")
    slate_id: str = Field(description="name this in the impressions and plays that follow")
    profile_id: str
    market: str
    release_id: str = Field(description="the release that computed every score here")
    eligibility_seq: int = Field(description="newest entry of the eligibility log that was applied")
    overlay_seq: int = Field(0, description="newest entry of the release's overlay that was applied: titles that "
                                            "arrived or changed since it was built; 0: none")
    generated_at: datetime
    surface: str
    degraded: list[str] = Field(description="stages that a fallback stood in for; empty when all is well")
    no_eligible_titles: bool = Field(description="true where not one title may be shown to this profile now")
    titles: list[ShelfTitle]
    pool: DebugPool | None = None


class ListedTitle(BaseModel):
    """One title of a list that is the same for everybody."""

    position: int
    title_id: str
    name: str
    score: float | None = Field(description="cosine similarity for similar titles; null for popular ones")


class PopularAnswer(BaseModel):
    """What is popular in a market, without personal data."""

    request_id: str
    market: str
    release_id: str
    eligibility_seq: int
    overlay_seq: int
    generated_at: datetime
    degraded: list[str] = []
    no_eligible_titles: bool = Field(description="true where not one title may be shown to whoever looks")
    titles: list[ListedTitle]


class SimilarAnswer(BaseModel):
    """The titles nearest to one title, by the release's item vectors."""

    request_id: str
    title_id: str
    market: str
    release_id: str
    eligibility_seq: int
    overlay_seq: int
    generated_at: datetime
    degraded: list[str] = []
    no_eligible_titles: bool = Field(description="true where not one title may be shown to whoever looks")
    titles: list[ListedTitle]


class Health(BaseModel):
    """The process runs."""

    status: Literal["ok"] = "ok"


class Readiness(BaseModel):
    """Whether this process can answer, and what is missing."""

    ready: bool
    release_id: str | None
    eligibility_seq: int | None
    missing: list[str] = Field(description="any of: release, eligibility_log, vector_database (shelves are then "
                                           "answered without it, degraded, and the process is ready)")

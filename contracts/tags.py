"""What a nightly tag pins: `lake/tags/nightly_<ds>.json` for the marts, `nightly_<ds>.training.json` for the training
tables. Written last by the job that made them; its existence means that the tag is complete.
"""

from datetime import date

from pydantic import BaseModel

from contracts.split import TimeSplit, split_for


class TableVersion(BaseModel):
    """One table at the tag. The logical hash covers its rows in any order, not its files."""

    snapshot_id: int
    rows: int
    logical_hash: str


class TagRecord(BaseModel):
    ds: str
    first: date  # the night's landed interval, both days included
    last: date
    has_impressions: bool  # the source logs slates
    tables: dict[str, TableVersion]

    @property
    def split(self) -> TimeSplit:
        return split_for(self.first, self.last)


def tag_file(tag: str) -> str:
    return f"{tag}.json"


def training_file(tag: str) -> str:
    return f"{tag}.training.json"

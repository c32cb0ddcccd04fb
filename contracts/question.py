"""The question that an approver answers: its text and its time, written by `marquee release ask`, shown by the DAG
`promote`, and compared with what Airflow showed before anything moves.
"""

from datetime import datetime
from pathlib import Path

from pydantic import BaseModel

DAG = "promote"
TASKS = ("approve", "approve_second")
"""The tasks that ask, in order; the second one only where two people must agree."""


class Question(BaseModel):
    """`body` is Markdown and holds both digests; an answer after `due` does not count."""

    release_id: str
    subject: str
    body: str
    asked_at: datetime
    half: datetime
    due: datetime


def path(home: Path, release: str) -> Path:
    """Where the question lies; ValueError for what is no plain release id."""
    if not release or Path(release).name != release:
        raise ValueError(f"{release!r} is no release id")
    return home / "questions" / f"{release}.json"


def read(home: Path, release: str) -> Question:
    return Question.model_validate_json(path(home, release).read_bytes())

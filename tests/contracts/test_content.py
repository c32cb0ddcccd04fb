"""Title content: stable over processes and time, since a tower that was trained on it must find it again."""

import hashlib
import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from contracts.content import CONTENT_WIDTH, Content, content_features, content_json, content_matrix, in_force, words
from contracts.settings import REPOSITORY

EXAMPLE = Content("t1", "The Quiet Harbour", "A lighthouse keeper waits for a letter.", ["Drama", "Mystery"], ["Ada Moss"],
                  "en", "movie", "", 1998, 104.0, 13)


def test_the_features_are_those_of_every_process():
    """Python's own string hash differs from process to process; this one must not."""
    code = ("import hashlib; from tests.contracts.test_content import EXAMPLE; from contracts.content import content_features;"
            "print(hashlib.sha256(content_features(EXAMPLE).tobytes()).hexdigest())")
    seen = {
        subprocess.run([sys.executable, "-c", code], env={"PYTHONHASHSEED": seed, "PYTHONPATH": str(REPOSITORY)}, cwd=REPOSITORY,
                       capture_output=True, text=True, check=True).stdout.strip()
        for seed in ("1", "2")
    }
    assert seen == {hashlib.sha256(content_features(EXAMPLE).tobytes()).hexdigest()}


@given(st.text(), st.text(), st.lists(st.text()), st.lists(st.text()), st.none() | st.integers(1870, 2200),
       st.none() | st.floats(0, 10_000), st.none() | st.integers(0, 18))
def test_any_title_has_finite_features(name, synopsis, genres, credits, year, runtime, maturity):
    content = Content("t", name, synopsis, genres, credits, "en", "movie", "s1", year, runtime, maturity)
    features = content_features(content)
    assert features.shape == (CONTENT_WIDTH,)
    assert features.dtype == np.float32
    assert np.isfinite(features).all()
    assert np.linalg.norm(features) < 5


def test_a_title_of_which_nothing_is_known_still_has_a_row():
    features = content_features(Content("t"))
    assert features[-1] == 1.0
    assert np.isfinite(features).all()


def test_what_differs_between_titles_differs_in_features():
    changes = ({"synopsis": "Robots race."}, {"genres": ["Comedy"]}, {"credits": ["Bo Lind"]}, {"language": "fr"},
               {"kind": "series"}, {"series_id": "s9"}, {"year": 1950}, {"runtime_minutes": 45.0}, {"maturity": 18})
    for change in changes:
        assert not np.allclose(content_features(EXAMPLE), content_features(Content(**{**vars(EXAMPLE), **change}))), change


def test_order_and_case_of_genres_do_not_matter():
    other = Content(**{**vars(EXAMPLE), "genres": ["mystery", "DRAMA"]})
    assert np.allclose(content_features(EXAMPLE), content_features(other))


def test_rows_of_a_table_with_nulls_become_content():
    row = {"title_id": "t", "name": "N", "genres": None, "year": None, "maturity": 0, "known_at": "not content"}
    assert Content.of(row) == Content("t", "N", maturity=0)
    assert np.array_equal(content_matrix([EXAMPLE, Content.of(row)])[1], content_features(Content("t", "N", maturity=0)))
    assert content_matrix([]).shape == (0, CONTENT_WIDTH)


def test_common_words_and_short_ones_say_nothing():
    assert words("The film that was THE harbours' own, 42 x") == ["harbou", "own"]


def test_a_version_holds_from_its_time_on_and_not_before():
    """A maturity announced for next month is not tonight's; a title that begins tomorrow has content already."""
    night, day = datetime(2026, 3, 31, tzinfo=UTC), timedelta(days=1)
    versions = [{"title_id": title, "valid_from": night + days * day, "maturity": maturity} for title, days, maturity in (
        ("b", -3, 7), ("a", 0, 1), ("b", 30, 0), ("b", -1, 18), ("a", 1, 2), ("c", -2, None))]
    assert [(title, row["maturity"]) for title, row in in_force(versions, night).items()] == [("a", 1), ("b", 18), ("c", None)]


def test_one_title_version_is_the_same_json_from_every_side():
    """A landed JSON record, a mart's row with nulls and empty lists, and Arrow's numbers: no change where there is none."""
    moment = datetime(2026, 3, 31, 12, tzinfo=UTC)
    landed = {"title_id": "t1", "name": "A", "year": 1998, "runtime_minutes": 104, "launched_at": moment, "event_id": "e"}
    mart = {"title_id": "t1", "name": "A", "synopsis": None, "genres": [], "credits": None, "language": "", "kind": None, "series_id": None,
            "year": np.int32(1998), "runtime_minutes": np.float64(104), "maturity": None, "launched_at": moment.replace(tzinfo=None)}
    assert content_json(landed) == content_json(mart) == {"name": "A", "year": 1998, "runtime_minutes": 104.0, "launched_at": moment.timestamp()}
    assert content_json({**landed, "maturity": 0})["maturity"] == 0
    assert json.loads(json.dumps(content_json(mart))) == content_json(mart)

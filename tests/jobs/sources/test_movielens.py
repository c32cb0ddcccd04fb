"""MovieLens in both layouts: what is declared, no leaks, and bad files named by file, line and field."""

import json
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pyarrow.compute as pc
import pytest

from contracts import clock
from contracts.errors import UsageError
from contracts.landing import content_sha256, list_intervals, read_marker
from jobs.sources import movielens
from jobs.sources.check import check
from jobs.sources.landing import REJECTED

from .conftest import Landed, settings_for

START = int(datetime(2000, 4, 25, tzinfo=UTC).timestamp())
DAY = 86_400
USERS, DAYS = 6, 100
FILMS = {1: "Matrix, The (1999)", 2: "Heat (1995)", 3: "Babylon 5", 4: "Never Rated (1980)"}


def ratings() -> list[tuple[int, int, float, int]]:
    """Each user rates a film a day, at 20:00 and some seconds; the film 3 only from day 90 on."""
    return [(user, 3 if day >= 90 and user == 1 else 1 + (user + day) % 2, 1.0 + (user + day) % 5, START + day * DAY + 20 * 3600 + user)
            for day in range(DAYS) for user in range(1, USERS + 1)]


def write_1m(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "ratings.dat").write_text("".join(f"{u}::{m}::{r:g}::{t}\n" for u, m, r, t in ratings()))
    (folder / "movies.dat").write_bytes("".join(f"{m}::{name}::Action|Café\n" for m, name in FILMS.items()).encode("latin-1"))
    (folder / "users.dat").write_text("".join(f"{u}::F::25::{u}::48067\n" for u in range(1, USERS + 1)))
    (folder / "dbpedia_abstracts.json").write_text(json.dumps({"1": "A hacker learns the truth.", "99": "Unknown."}))
    return folder


def write_small(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "ratings.csv").write_text("userId,movieId,rating,timestamp\n" + "".join(f"{u},{m},{r},{t}\r\n" for u, m, r, t in ratings()))
    (folder / "movies.csv").write_text("movieId,title,genres\n" + "".join(f'{m},"{name}",{"(no genres listed)" if m == 3 else "Drama|Sci-Fi"}\n' for m, name in FILMS.items()))
    tags = [(1, 1, "cyber, punk", START + 10 * DAY), (2, 1, "kung fu", START + 10 * DAY + 60), (2, 1, "kung fu", START + 20 * DAY),
            (2, 1, "sequel ruined it", START + 99 * DAY + 10)]
    (folder / "tags.csv").write_text("userId,movieId,tag,timestamp\n" + "".join(f'{u},{m},"{tag}",{t}\n' for u, m, tag, t in tags))
    return folder


LAYOUTS = {"ml-1m": write_1m, "ml-latest-small": write_small}


def land(tmp_path: Path, data: Path, **options) -> Landed:
    settings = settings_for(tmp_path / "home")
    return Landed(settings, movielens.land(settings, data, **options))


@pytest.fixture(params=LAYOUTS)
def data(request, tmp_path) -> Path:
    return LAYOUTS[request.param](tmp_path / "data")


# --- what lands ---------------------------------------------------------------------------------------------------

def test_ratings_are_plays_and_everything_is_licensed_and_unrated(tmp_path, data):
    landed = land(tmp_path, data)
    plays = landed.rows("plays")
    history, night = (i for i, _ in list_intervals(landed.settings.landing))
    given = [r for r in ratings() if r[3] < START + (night.last - date(2000, 4, 25)).days * DAY + DAY]
    assert plays.num_rows == len(given) == landed.result["records"]["plays"]
    assert {(int(p["profile_id"]), int(p["title_id"]), p["rating"], int(p["event_time"].timestamp())) for p in plays.to_pylist()} == set(given)
    assert "watched_seconds" not in plays.column_names
    assert pc.all(pc.equal(pc.subtract(plays["received_at"], plays["event_time"]), timedelta(seconds=1))).as_py()
    assert pc.unique(landed.rows("titles")["maturity"]).to_pylist() == [18]
    assert pc.unique(landed.rows("profiles")["maturity_limit"]).to_pylist() == [18]
    assert pc.unique(landed.rows("licences")["market"]).to_pylist() == pc.unique(landed.rows("profiles")["market"]).to_pylist() == ["ML"]
    assert history.last + timedelta(days=1) == night.first
    assert check(landed.settings.landing).ok


def test_today_is_where_95_percent_have_been_given_and_a_night_has_one_percent(tmp_path, data):
    landed = land(tmp_path, data)
    assert landed.result["ds"] == str(date(2000, 4, 25) + timedelta(days=94))
    assert landed.result["intervals"][1] == landed.result["ds"]  # 6 of 600 ratings: one day is exactly 1 %
    assert clock.now(landed.home) >= datetime(2000, 7, 29, 6, tzinfo=UTC)


def test_as_of_says_another_today(tmp_path, data):
    assert land(tmp_path, data, as_of="2000-06-30").result["ds"] == "2000-06-30"


def test_nothing_is_known_before_it_can_be(tmp_path, data):
    landed = land(tmp_path, data, as_of="2000-08-01")
    first_rating: dict[str, datetime] = {}
    for play in landed.rows("plays").sort_by("event_time").to_pylist():
        first_rating.setdefault(play["title_id"], play["event_time"])
    versions: dict[str, list[datetime]] = {}
    for title in landed.rows("titles").to_pylist():
        versions.setdefault(title["title_id"], []).append(title["received_at"])
    for title_id, moment in first_rating.items():
        assert min(versions[title_id]) == moment - timedelta(days=1)
    opens = {row["title_id"]: row["opens_at"] for row in landed.rows("licences").to_pylist()}
    assert all(opens[title_id] < moment for title_id, moment in first_rating.items())
    # film 3 is first rated on day 90, so it is not there on the first day
    assert min(versions["3"]) == datetime(2000, 7, 23, 20, 0, 1, tzinfo=UTC)
    assert min(versions["4"]).date() == date(2000, 4, 24)


def test_names_read_well(tmp_path, data):
    titles = {row["title_id"]: row for row in land(tmp_path, data).rows("titles").to_pylist()}
    assert [(titles[i]["name"], titles[i]["year"]) for i in "1234"] == [
        ("The Matrix", 1999), ("Heat", 1995), ("Babylon 5", None), ("Never Rated", 1980)]


def test_ml_1m_has_plots_and_demographics(tmp_path):
    landed = land(tmp_path, write_1m(tmp_path / "data"))
    titles = {row["title_id"]: row for row in landed.rows("titles").to_pylist()}
    assert titles["1"]["synopsis"] == "A hacker learns the truth."
    assert titles["2"]["synopsis"] is None
    assert titles["1"]["genres"] == ["Action", "Café"]
    assert landed.rows("profiles").to_pylist()[0]["attributes"] == ["gender=F", "age=25", "occupation=1"]


def test_tags_become_words_only_when_they_have_been_given(tmp_path):
    landed = land(tmp_path, write_small(tmp_path / "data"), as_of="2000-08-01")
    versions = sorted((row["received_at"], row["synopsis"]) for row in landed.rows("titles").to_pylist() if row["title_id"] == "1")
    assert versions == [
        (datetime(2000, 4, 24, 20, 0, 2, tzinfo=UTC), None),
        (datetime(2000, 5, 5, 0, 1, 1, tzinfo=UTC), "cyber, punk, kung fu"),
    ]
    following = Landed(landed.settings, movielens.land(landed.settings, tmp_path / "data", next_day=True))
    last = [row["synopsis"] for row in following.rows("titles", following.result["intervals"][0]).to_pylist()] if following.result["records"].get("titles") else []
    assert following.result["ds"] == "2000-08-02"
    assert last == ["cyber, punk, kung fu, sequel ruined it"]
    assert next(row["genres"] for row in landed.rows("titles").to_pylist() if row["title_id"] == "3") == []


def test_landing_again_changes_nothing_and_the_next_span_follows(tmp_path, data):
    landed = land(tmp_path, data)
    before = {folder.name: content_sha256(folder) for _, folder in list_intervals(landed.settings.landing)}
    assert movielens.land(landed.settings, data) == landed.result
    assert {folder.name: content_sha256(folder) for _, folder in list_intervals(landed.settings.landing)} == before
    days = [movielens.land(landed.settings, data, next_day=True)["ds"] for _ in range(5)]
    assert days == [str(date(2000, 4, 25) + timedelta(days=d)) for d in range(95, 100)]
    with pytest.raises(UsageError, match="the data ends here: 0 ratings are left after 2000-08-02, a night has at least 6"):
        movielens.land(landed.settings, data, next_day=True)
    assert check(landed.settings.landing).ok


# --- bad input ----------------------------------------------------------------------------------------------------

def damage(name: str, change) -> object:
    def spoil(data: Path) -> None:
        path = data / name
        path.write_text(change(path.read_text(encoding="latin-1")), encoding="latin-1")
    return spoil


def many_bad(text: str) -> str:
    return "\n".join(f"{line}::extra" if n % 2 else line for n, line in enumerate(text.splitlines()))


BAD_1M = {
    "missing": (lambda data: (data / "movies.dat").unlink(), r"movies\.dat: missing"),
    "no ratings at all": (lambda data: (data / "ratings.dat").unlink(), r"neither ratings\.dat \(ml-1m\) nor ratings\.csv"),
    "empty": (damage("ratings.dat", lambda text: ""), r"ratings\.dat: is empty"),
    "too many fields": (damage("ratings.dat", many_bad), r"ratings\.dat: line 2: the line does not have four fields; 300 of 600 lines"),
    "another separator": (damage("ratings.dat", lambda text: text.replace("::", ",")), r"ratings\.dat: line 1: the line does not have four fields"),
    "time as text": (damage("ratings.dat", lambda text: "\n".join(f"{line}Z" for line in text.splitlines())), r"ratings\.dat: line 1: timestamp is '\d+Z'"),
    "rating out of range": (damage("ratings.dat", lambda text: text.replace("::5::", "::9::")), r"ratings\.dat: line \d+: rating is '9'"),
    "film without id": (damage("movies.dat", lambda text: text.replace("2::", "two::")), r"movies\.dat: line 2: MovieID is 'two'"),
    "users of another layout": (damage("users.dat", lambda text: text.replace("::F", "")), r"users\.dat: line 1: expected 5 fields \(UserID, Gender"),
    "abstracts of another layout": (damage("dbpedia_abstracts.json", lambda text: "[1]"), r"dbpedia_abstracts\.json: expected one JSON object"),
}
BAD_SMALL = {
    "missing": (lambda data: (data / "movies.csv").unlink(), r"movies\.csv: missing"),
    "header": (damage("ratings.csv", lambda text: text.replace("movieId", "film")), r"ratings\.csv: line 1: expected the columns userId,movieId,rating,timestamp, found userId,film"),
    "film header": (damage("movies.csv", lambda text: text.replace("genres", "kind")), r"movies\.csv: line 1: expected the columns movieId,title,genres"),
    "no film": (lambda data: (data / "movies.csv").write_text("movieId,title,genres\n"), r"movies\.csv: has no movie"),
    "film id": (damage("movies.csv", lambda text: text.replace("\n2,", "\ntwo,")), r"movies\.csv: line 3: movieId is 'two'"),
    "tag time": (damage("tags.csv", lambda text: text.replace('",', '",at ')), r"tags\.csv: line 2: timestamp is 'at "),
    "no UTF-8": (lambda data: (data / "movies.csv").write_bytes(b"\xff\xfe"), r"movies\.csv: not readable as utf-8"),
    "a folder": (lambda data: ((data / "tags.csv").unlink(), (data / "tags.csv").mkdir()), r"tags\.csv: not readable"),
}


@pytest.mark.parametrize(("write", "spoil", "message"), [
    *[pytest.param(write_1m, *case, id=f"ml-1m: {name}") for name, case in BAD_1M.items()],
    *[pytest.param(write_small, *case, id=f"ml-latest-small: {name}") for name, case in BAD_SMALL.items()],
])
def test_bad_files_are_refused_by_file_line_and_field(tmp_path, write, spoil, message):
    data = write(tmp_path / "data")
    spoil(data)
    with pytest.raises(UsageError, match=message):
        land(tmp_path, data)
    assert list_intervals(tmp_path / "home" / "landing") == []


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"absent: no such folder"):
        land(tmp_path, tmp_path / "absent")


@pytest.mark.parametrize(("as_of", "message"), [
    ("last week", "not a date"), ("1999-01-01", "the ratings go from 2000-04-25 to 2000-08-02"), ("2000-04-26", "a night alone needs 6|only"),
])
def test_an_as_of_outside_the_data_is_refused(tmp_path, data, as_of, message):
    if as_of == "2000-04-26":  # a day before it is history enough
        assert land(tmp_path, data, as_of=as_of).result["ds"] == as_of
    else:
        with pytest.raises(UsageError, match=message):
            land(tmp_path, data, as_of=as_of)


def test_a_byte_order_mark_is_no_part_of_the_header(tmp_path):
    data = write_small(tmp_path / "data")
    for name in ("ratings.csv", "movies.csv", "tags.csv"):
        (data / name).write_bytes(b"\xef\xbb\xbf" + (data / name).read_bytes())
    assert land(tmp_path, data).result["rejected"] == 0


def test_a_few_bad_lines_are_kept_and_counted(tmp_path, caplog):
    data = write_1m(tmp_path / "data")
    lines = (data / "ratings.dat").read_text().splitlines()
    (data / "ratings.dat").write_text("\n".join([*lines[:9], "1::2::five::978300760", *lines[9:]]) + "\n")
    landed = land(tmp_path, data)
    assert landed.result["rejected"] == 1
    assert f"{data / 'ratings.dat'}: line 10: rating is 'five'; set aside" in caplog.text
    folder = landed.settings.landing / landed.result["intervals"][0]
    assert json.loads((folder / REJECTED).read_text()) == {
        "file": "ratings.dat", "line": 10, "problem": "rating is 'five'", "text": "1::2::five::978300760"}
    assert read_marker(folder)["rejected"] == 1
    assert check(landed.settings.landing).ok


def test_a_home_with_another_source_is_refused(nano_world, data):
    with pytest.raises(UsageError, match="came from 'world'; movielens wants a MARQUEE_HOME of its own"):
        movielens.land(nano_world.settings, data)


# --- the real thing -----------------------------------------------------------------------------------------------

def test_latest_small_as_it_is(tmp_path, movielens_small):
    landed = land(tmp_path, movielens_small)
    assert landed.result["rejected"] == 0
    history, night = (i for i, _ in list_intervals(landed.settings.landing))
    plays = landed.rows("plays")
    assert plays.num_rows >= 0.95 * 100_836
    assert landed.rows("plays", night.name).num_rows >= 1008
    assert len(pc.unique(plays["event_id"])) == plays.num_rows
    assert history.first.year == 1996
    titles = {row["title_id"]: row for row in landed.rows("titles", history.name).to_pylist()}
    assert (titles["1"]["name"], titles["1"]["year"]) == ("Toy Story", 1995)
    assert "pixar" in titles["1"]["synopsis"]

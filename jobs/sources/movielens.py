"""MovieLens in GroupLens' own layouts, as landing records: ml-1m (`ratings.dat`, `::`, latin-1) and ml-latest-small
(`ratings.csv`, UTF-8).

A rating is a play of unknown length. There are no impressions; one market, `ML`; every title is unrated (maturity 18)
and every profile may see everything. What the files do not say is declared here:

- A rating is received LAG after it was given. A title, its licence and a profile are known KNOWN_BEFORE their first
  rating; a title without any, from the first day on.
- Tags become words of the synopsis as they are given: each day with new tags is a new version of the title, so that no
  version knows a later tag. `dbpedia_abstracts.json` (title id to plot), where present, is known from the start.
- "Today" is the day by whose end 95 % of the ratings have been given; a night is the smallest span of whole days with
  at least 1 % of them.
- History is partitioned by event month: MovieLens spans thousands of nearly empty days.
"""

import csv
import json
import logging
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from contracts.errors import UsageError
from contracts.landing import Interval, read_marker
from contracts.settings import Settings
from jobs.runtime import require_free_disk
from jobs.sources.landing import ARROW_TYPES, Landing, advance_clock, landed_by, schema

log = logging.getLogger("marquee")

SOURCE, MARKET, UNRATED = "movielens", "ML", 18
LAG_SECONDS = 1
KNOWN_BEFORE_SECONDS = DAY = 86_400
TODAY_QUANTILE, NIGHT_SHARE = 0.95, 0.01
MOST_REJECTED, MOST_NAMED = 0.01, 5
MONTHLY_FROM_DAYS = 62

_YEAR = re.compile(r"^(.*?)\s*\((\d{4})(?:[-–]\d{0,4})?\)\s*$")
_ARTICLE = re.compile(r"^(.*), (The|A|An|Le|La|Les|L'|El|Los|Las|Il|Der|Die|Das)$")


@dataclass
class Ratings:
    """Parsed ratings, ordered by (time, user, movie): (N,) each."""

    user: np.ndarray
    movie: np.ndarray
    rating: np.ndarray
    second: np.ndarray  # epoch

    @property
    def received(self) -> np.ndarray:
        return self.second + LAG_SECONDS


@dataclass
class Movie:
    movie_id: int
    name: str
    year: int | None
    genres: list[str]
    synopsis: str | None = None
    tags: list[tuple[int, str]] = field(default_factory=list)  # (epoch second, tag), in order of time


@dataclass
class Source:
    """A whole MovieLens folder."""

    ratings: Ratings
    movies: dict[int, Movie]
    attributes: dict[int, list[str]]  # by user
    rejected: list[dict[str, Any]]  # lines that could not be read: file, line, field, text


def land(settings: Settings, data: Path, as_of: str | None = None, next_day: bool = False) -> dict[str, Any]:
    """Lands the history and the night that ends on `as_of`, or with `next_day` the span after the last landed one.

    Landing the same again changes nothing. Raises UsageError, naming file, line and field, for what is no MovieLens
    folder, and for an `as_of` outside the ratings.
    """
    landed = landed_by(settings.landing, SOURCE)
    require_free_disk(settings)
    source = read(data)
    if next_day:
        intervals = [_following(source.ratings, landed, settings.landing)]
    else:
        intervals = _history_and_night(source.ratings, _today(source.ratings, as_of))
    records = Records(source)
    for interval in intervals:
        with Landing(settings.landing, interval, SOURCE, {"received_lag_seconds": LAG_SECONDS}) as out:
            records.write(out, interval)
            out.set_aside(source.rejected if interval == intervals[0] and not next_day else [])
    advance_clock(settings.home, intervals[-1])
    return _result(settings.landing, intervals)


def read(data: Path) -> Source:
    """The folder's files; the layout is known by their names."""
    if not data.is_dir():
        raise UsageError(f"{data}: no such folder")
    if (data / "ratings.dat").exists():
        return _read_1m(data)
    if (data / "ratings.csv").exists():
        return _read_small(data)
    raise UsageError(f"{data}: neither ratings.dat (ml-1m) nor ratings.csv (ml-latest-small) is here; "
                     "give the folder that GroupLens' archive unpacks to")


# --- the night ----------------------------------------------------------------------------------------------------

def _today(ratings: Ratings, as_of: str | None) -> date:
    days = _days(ratings.received)
    if as_of is None:
        return _date(np.quantile(days, TODAY_QUANTILE, method="inverted_cdf"))
    try:
        today = date.fromisoformat(as_of)
    except ValueError:
        raise UsageError(f"--as-of {as_of}: not a date; write YYYY-MM-DD") from None
    if not _date(days[0]) < today <= _date(days[-1]):
        raise UsageError(f"--as-of {as_of}: the ratings go from {_date(days[0])} to {_date(days[-1])}")
    return today


def _history_and_night(ratings: Ratings, today: date) -> list[Interval]:
    days = _days(ratings.received)
    last = _number(today)
    until_today = int(np.searchsorted(days, last, side="right"))
    wanted = _events_of_a_night(ratings)
    if until_today <= wanted:
        raise UsageError(f"{today}: only {until_today} ratings until then; a night alone needs {wanted}")
    first = int(days[until_today - wanted])
    start = int((ratings.received[0] - LAG_SECONDS - KNOWN_BEFORE_SECONDS) // DAY)
    return [Interval(_date(start), _date(first - 1)), Interval(_date(first), today)]


def _following(ratings: Ratings, landed: list[Interval], landing: Path) -> Interval:
    if len(landed) < 2:
        raise UsageError(f"{landing}: no history to go on from; run `marquee land movielens DATA` first")
    days = _days(ratings.received)
    first = _number(landed[-1].last) + 1
    begin, wanted = int(np.searchsorted(days, first)), _events_of_a_night(ratings)
    if len(days) - begin < wanted:
        raise UsageError(f"{landing}: the data ends here: {len(days) - begin} ratings are left after {landed[-1].last}, "
                         f"a night has at least {wanted}")
    return Interval(_date(first), _date(days[begin + wanted - 1]))


def _events_of_a_night(ratings: Ratings) -> int:
    return int(np.ceil(NIGHT_SHARE * len(ratings.second)))


def _days(seconds: np.ndarray) -> np.ndarray:
    """Day numbers since 1970; sorted, as the seconds are."""
    return seconds // DAY


def _date(day: float) -> date:
    return date(1970, 1, 1) + timedelta(days=int(day))


def _number(day: date) -> int:
    return (day - date(1970, 1, 1)).days


# --- records ------------------------------------------------------------------------------------------------------

class Records:
    """The landing tables of a source; `write` takes those that were received in an interval."""

    def __init__(self, source: Source) -> None:
        ratings = source.ratings
        begin = int(ratings.second[0])
        titles, licences = _titles_and_licences(source, begin - KNOWN_BEFORE_SECONDS)
        self.tables = {"titles": titles, "licences": licences, "profiles": _profiles(source), "plays": _plays(ratings)}

    def write(self, out: Landing, interval: Interval) -> None:
        start = pa.scalar(datetime.combine(interval.first, datetime.min.time(), UTC), ARROW_TYPES["timestamp"])
        end = pa.scalar(datetime.combine(interval.last + timedelta(days=1), datetime.min.time(), UTC), ARROW_TYPES["timestamp"])
        for name, rows in self.tables.items():
            inside = pc.and_(pc.greater_equal(rows["received_at"], start), pc.less(rows["received_at"], end))
            chosen = rows.filter(inside).sort_by([("event_time", "ascending"), ("event_id", "ascending")])
            if name == "plays" and interval.days > MONTHLY_FROM_DAYS:
                _write_by_month(out, name, chosen)
            else:
                out.write(name, chosen)


def _write_by_month(out: Landing, name: str, rows: pa.Table) -> None:
    month = pc.strftime(rows["event_time"], format="%Y-%m")
    for value in pc.unique(month).to_pylist():
        out.write(name, rows.filter(pc.equal(month, value)), f"event_month={value}")


def _titles_and_licences(source: Source, from_the_start: int) -> tuple[pa.Table, pa.Table]:
    rated, first = np.unique(source.ratings.movie, return_index=True)
    first_rating = dict(zip(rated.tolist(), source.ratings.second[first].tolist()))
    titles, licences = [], []
    for movie in source.movies.values():
        known = first_rating.get(movie.movie_id, from_the_start + KNOWN_BEFORE_SECONDS) - KNOWN_BEFORE_SECONDS
        versions = list(_versions(movie, known))
        for number, (at, synopsis) in enumerate(versions):
            titles.append({
                "event_id": f"t{movie.movie_id}-{number}", "event_time": at, "received_at": at, "title_id": str(movie.movie_id),
                "valid_from": at, "name": movie.name, "kind": "movie", "synopsis": synopsis, "genres": movie.genres,
                "year": movie.year, "maturity": UNRATED, "launched_at": known,
            })
        licences.append({
            "event_id": f"l{movie.movie_id}", "event_time": known, "received_at": known, "window_id": f"w{movie.movie_id}",
            "title_id": str(movie.movie_id), "market": MARKET, "opens_at": known,
        })
    return _table("titles", titles), _table("licences", licences)


def _versions(movie: Movie, known: int) -> Iterator[tuple[int, str | None]]:
    """(epoch second from which it is known, synopsis) of each version: the first, then one a day with new tags."""
    words = {tag: None for at, tag in movie.tags if at <= known}
    yield known, _synopsis(movie, words)
    later = [(at, tag) for at, tag in movie.tags if at > known]
    for _, group in groupby(later, key=lambda tag: tag[0] // DAY):
        before, tags = len(words), list(group)
        last = tags[-1][0]
        words |= {tag: None for _, tag in tags}
        if len(words) > before:
            yield last + LAG_SECONDS, _synopsis(movie, words)


def _synopsis(movie: Movie, words: dict[str, None]) -> str | None:
    parts = [movie.synopsis or "", ", ".join(words)]
    return " ".join(part for part in parts if part) or None


def _profiles(source: Source) -> pa.Table:
    users, first = np.unique(source.ratings.user, return_index=True)
    return _table("profiles", [{
        "event_id": f"u{user}", "event_time": at, "received_at": at, "profile_id": str(user), "market": MARKET, "is_kids": False,
        "maturity_limit": UNRATED, "attributes": source.attributes.get(user, []),
    } for user, at in zip(users.tolist(), (source.ratings.second[first] - KNOWN_BEFORE_SECONDS).tolist())])


def _plays(ratings: Ratings) -> pa.Table:
    user, movie = pa.array(ratings.user).cast(pa.string()), pa.array(ratings.movie).cast(pa.string())
    at = pa.array(ratings.second)
    return pa.table({
        "event_id": pc.binary_join_element_wise("r", user, movie, at.cast(pa.string()), "-"),
        "event_time": _timestamps(at), "received_at": _timestamps(pa.array(ratings.received)),
        "profile_id": user, "title_id": movie, "rating": pa.array(ratings.rating),
    })


def _table(name: str, records: list[dict[str, Any]]) -> pa.Table:
    """Records with epoch seconds for timestamps, as an Arrow table; UsageError where there is none."""
    wanted = [f for f in schema(name) if f.name in (records[0] if records else {})]
    columns = {}
    for column in wanted:
        values = [record[column.name] for record in records]
        columns[column.name] = _timestamps(pa.array(values, pa.int64())) if pa.types.is_timestamp(column.type) else pa.array(values, column.type)
    return pa.table(columns)


def _timestamps(seconds: pa.Array) -> pa.Array:
    return pc.multiply(seconds, 1_000_000).cast(ARROW_TYPES["timestamp"])


# --- reading ------------------------------------------------------------------------------------------------------

def _read_1m(data: Path) -> Source:
    rejected: list[dict[str, Any]] = []
    ratings = _ratings(data / "ratings.dat", _lines(data / "ratings.dat", "latin-1"), "::", 1, rejected)
    movies = {}
    for movie_id, title, genres in _fields(data / "movies.dat", "latin-1", ("MovieID", "Title", "Genres"), rejected):
        movies[movie_id] = _movie(movie_id, title, genres)
    attributes = {}
    if (data / "users.dat").exists():
        columns = ("UserID", "Gender", "Age", "Occupation", "Zip-code")
        for user, gender, age, occupation, _ in _fields(data / "users.dat", "latin-1", columns, rejected):
            attributes[user] = [f"gender={gender}", f"age={age}", f"occupation={occupation}"]
    _add_abstracts(data / "dbpedia_abstracts.json", movies)
    return Source(ratings, movies, attributes, rejected)


def _read_small(data: Path) -> Source:
    rejected: list[dict[str, Any]] = []
    path = data / "ratings.csv"
    lines = _lines(path, "utf-8-sig")
    _expect_header(path, lines[0].split(",") if lines else [], ("userId", "movieId", "rating", "timestamp"))
    ratings = _ratings(path, lines[1:], ",", 2, rejected)
    movies = {}
    for movie_id, title, genres in _csv(data / "movies.csv", ("movieId", "title", "genres"), _movie_row, rejected):
        movies[movie_id] = _movie(movie_id, title, "" if genres == "(no genres listed)" else genres)
    if not movies:
        raise UsageError(f"{data / 'movies.csv'}: has no movie")
    if (data / "tags.csv").exists():
        tags = _csv(data / "tags.csv", ("userId", "movieId", "tag", "timestamp"), _tag_row, rejected)
        for at, movie_id, tag in sorted(tags):
            if movie_id in movies:
                movies[movie_id].tags.append((at, tag))
    _add_abstracts(data / "dbpedia_abstracts.json", movies)
    return Source(ratings, movies, {}, rejected)


def _ratings(path: Path, lines: list[str], separator: str, first_line: int, rejected: list[dict[str, Any]]) -> Ratings:
    """Vectorised: a million lines in about a second. `first_line` numbers the first of `lines` in the file."""
    text = pa.array(lines, pa.string())
    fields = pc.split_pattern(text, separator)
    whole = np.asarray(pc.equal(pc.list_value_length(fields), 4).fill_null(False))
    bad = {int(i): "the line does not have four fields" for i in np.flatnonzero(~whole)}
    kept = np.flatnonzero(whole)
    parts = [pc.list_element(fields.take(pa.array(kept)), i) for i in range(4)]
    patterns = (("user", r"^\d{1,18}$"), ("movie", r"^\d{1,18}$"), ("rating", r"^(0\.5|[1-4](\.[05]0*)?|5(\.0+)?)$"), ("timestamp", r"^\d{1,11}$"))
    good = np.ones(len(kept), bool)
    for (name, pattern), part in zip(patterns, parts):
        fits = np.asarray(pc.match_substring_regex(part, pattern))
        bad |= {int(kept[i]): f"{name} is {part[int(i)].as_py()!r}" for i in np.flatnonzero(good & ~fits)}
        good &= fits
    _reject(path, {first_line + i: (what, lines[i]) for i, what in sorted(bad.items())}, len(lines), rejected)
    chosen = pa.array(good)
    user, movie, second = (np.asarray(parts[i].filter(chosen).cast(pa.int64())) for i in (0, 1, 3))
    rating = np.asarray(parts[2].filter(chosen).cast(pa.float64()))
    if not len(user):
        raise UsageError(f"{path}: has no rating")
    order = np.lexsort((movie, user, second))
    return Ratings(user[order], movie[order], rating[order], second[order])


def _fields(path: Path, encoding: str, columns: tuple[str, ...], rejected: list[dict[str, Any]]) -> list[tuple]:
    """Rows of a small `::` file whose first field is a number."""
    rows, bad, lines = [], {}, _lines(path, encoding)
    for number, line in enumerate(lines, 1):
        fields = line.split("::")
        if len(fields) != len(columns):
            bad[number] = (f"expected {len(columns)} fields ({', '.join(columns)}), found {len(fields)}", line)
        elif not fields[0].isdigit():
            bad[number] = (f"{columns[0]} is {fields[0]!r}", line)
        else:
            rows.append((int(fields[0]), *fields[1:]))
    _reject(path, bad, len(lines), rejected)
    return rows


def _csv(path: Path, columns: tuple[str, ...], row: Callable[[list[str]], tuple], rejected: list[dict[str, Any]]) -> list[tuple]:
    """Rows of a small quoted CSV file; `row` raises ValueError for one that it cannot read."""
    lines = _lines(path, "utf-8-sig")
    reader = csv.reader(lines)
    _expect_header(path, next(reader, []), columns)
    rows, bad = [], {}
    for fields in reader:
        try:
            if len(fields) != len(columns):
                raise ValueError(f"expected {len(columns)} fields ({', '.join(columns)}), found {len(fields)}")
            rows.append(row(fields))
        except ValueError as error:
            bad[reader.line_num] = (str(error), ",".join(fields))
    _reject(path, bad, len(lines), rejected)
    return rows


def _movie_row(fields: list[str]) -> tuple:
    return _integer("movieId", fields[0]), fields[1], fields[2]


def _tag_row(fields: list[str]) -> tuple:
    return _integer("timestamp", fields[3]), _integer("movieId", fields[1]), fields[2].strip()


def _integer(name: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise ValueError(f"{name} is {text!r}")
    return int(text)


def _movie(movie_id: int, title: str, genres: str) -> Movie:
    """`Matrix, The (1999)` reads `The Matrix`, 1999."""
    match = _YEAR.match(title)
    name, year = (match[1], int(match[2])) if match else (title.strip(), None)
    article = _ARTICLE.match(name)
    if article:
        name = f"{article[2]}{'' if article[2].endswith(chr(39)) else ' '}{article[1]}"
    return Movie(movie_id, name or title, year if year and 1870 <= year <= 2200 else None, [g for g in genres.split("|") if g])


def _add_abstracts(path: Path, movies: dict[int, Movie]) -> None:
    if not path.exists():
        return
    try:
        abstracts = json.loads(path.read_text(encoding="utf-8"))
        for movie_id, text in abstracts.items():
            if int(movie_id) in movies:
                movies[int(movie_id)].synopsis = str(text)
    except (OSError, ValueError, AttributeError) as error:
        raise UsageError(f"{path}: expected one JSON object, title id to text ({error})") from None


def _lines(path: Path, encoding: str) -> list[str]:
    try:
        # not splitlines(): latin-1 text may hold characters that Python, but no other reader, takes for a line's end
        text = path.read_bytes().decode(encoding)
    except FileNotFoundError:
        raise UsageError(f"{path}: missing") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: not readable as {encoding} ({error})") from None
    return [line.rstrip("\r") for line in text.removesuffix("\n").split("\n")] if text.strip() else []


def _expect_header(path: Path, found: list[str], columns: tuple[str, ...]) -> None:
    if tuple(found) != columns:
        raise UsageError(f"{path}: line 1: expected the columns {','.join(columns)}, found {','.join(found)[:80] or 'nothing'}")


def _reject(path: Path, bad: dict[int, tuple[str, str]], lines: int, rejected: list[dict[str, Any]]) -> None:
    """Sets few bad lines aside; raises UsageError for many, and for an empty file."""
    if not lines:
        raise UsageError(f"{path}: is empty")
    if len(bad) > MOST_REJECTED * lines:
        number, (what, _) = next(iter(sorted(bad.items())))
        raise UsageError(f"{path}: line {number}: {what}; {len(bad)} of {lines} lines cannot be read")
    for number, (what, _) in sorted(bad.items())[:MOST_NAMED]:
        log.warning("%s: line %d: %s; set aside", path, number, what)
    rejected += [{"file": path.name, "line": number, "problem": what, "text": text[:500]} for number, (what, text) in sorted(bad.items())]


def _result(landing: Path, intervals: list[Interval]) -> dict[str, Any]:
    markers = [read_marker(landing / interval.name) for interval in intervals]
    tables = sorted({table for marker in markers for table in marker["tables"]})
    return {
        "ds": str(intervals[-1].last), "source": SOURCE, "intervals": [interval.name for interval in intervals],
        "records": {table: sum(marker["tables"].get(table, 0) for marker in markers) for table in tables},
        "rejected": sum(marker.get("rejected", 0) for marker in markers),
    }

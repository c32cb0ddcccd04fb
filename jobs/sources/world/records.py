"""From simulated events to landing records: ids, times of receipt, and the planted defects (late, duplicated and
malformed records) with their true counts.

Tables here carry one column more than the landing format: DEFECT, dropped before writing.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from contracts.query import DEVICES
from jobs.sources import landing
from jobs.sources.world.behaviour import DAY_SECONDS, SURFACES, Day, World
from jobs.sources.world.catalogue import FOREVER, UNKNOWN
from jobs.sources.world.randomness import stream
from jobs.sources.world.slates import EMPTY
from jobs.sources.world.words import LANGUAGES, MARKETS

DEFECT = "_defect"
CLEAN, LATE, DUPLICATE = 0, 1, 2
MICRO = 1_000_000
DAY_MICROS = DAY_SECONDS * MICRO
EVENT_TABLES = ("impressions", "plays", "skips", "ratings")
UNKNOWN_TITLE = "t-not-in-the-catalogue"


@dataclass
class Malformed:
    """Records that no table can hold, by the UTC day on which they were received, and what is wrong with each."""

    lines: list[dict[str, Any]] = field(default_factory=list)
    kinds: list[str] = field(default_factory=list)
    received_day: list[int] = field(default_factory=list)


class Writer:
    """Makes the landing records of one world."""

    def __init__(self, world: World, seed: int) -> None:
        self.world, self.seed = world, seed
        self._start = int(datetime.combine(world.recipe.first_day, datetime.min.time(), UTC).timestamp()) * MICRO
        self._profile_ids = pa.array(world.population.ids, pa.string())
        self._household_ids = pa.array(world.population.household_ids, pa.string())
        self._title_ids = pa.array(world.catalogue.ids, pa.string())

    def micros(self, day: np.ndarray | int, second: np.ndarray | int = 0) -> np.ndarray:
        """Microseconds since 1970 of a second of a day of this world."""
        return np.asarray(self._start + np.asarray(day, np.int64) * DAY_MICROS + np.asarray(second, np.int64) * MICRO)

    def day_of(self, moments: pa.ChunkedArray | pa.Array) -> np.ndarray:
        """Days since the first one, of timestamps."""
        return (np.asarray(moments.cast(pa.int64())) - self._start) // DAY_MICROS

    # --- events ---------------------------------------------------------------------------------------------------

    def events(self, number: int, day: Day) -> tuple[dict[str, pa.Table], dict[str, Malformed]]:
        """The event tables of one simulated day, with DEFECT, and the malformed records planted beside them."""
        tables = {"impressions": self._impressions(number, day), "plays": self._plays(number, day),
                  "skips": self._skips(number, day), "ratings": self._ratings(number, day)}
        malformed = {name: self._malformed(name, number, tables[name]) for name in ("impressions", "plays")}
        return {name: self._with_duplicates(name, number, table) for name, table in tables.items()}, malformed

    def _impressions(self, number: int, day: Day) -> pa.Table:
        rng = stream(self.seed, "impressions", number)
        session, slot = np.nonzero(day.slates.title != EMPTY)
        profile = day.sessions.profile[session]
        at = self.micros(number, day.sessions.second)
        received, late = self._received(rng, at, at + rng.integers(2 * MICRO, 20 * MICRO, len(at)))
        return pa.table({
            "event_id": _ids("i", self.world.recipe.date(number), np.arange(len(session))),
            "event_time": _times(at[session]), "received_at": _times(received[session]),
            "slate_id": self._slate_ids(number, session),
            "profile_id": self._profile_ids.take(pa.array(profile)),
            "household_id": self._household_ids.take(pa.array(profile)),
            "title_id": self._title_ids.take(pa.array(day.slates.title[session, slot])),
            "position": pa.array((slot + 1).astype(np.int32)),
            "propensity": pa.array(day.slates.propensity[session, slot]),
            "explored": pa.array(day.slates.explored[session, slot]),
            "release_id": pa.array(day.release, pa.string()).take(pa.array(session)),
            "surface": _constant("home", len(session)),
            "device": _choice(DEVICES, day.sessions.device[session]),
            "experiment": _constant("none", len(session)), "arm": _constant("control", len(session)),
            DEFECT: pa.array(np.where(late[session], LATE, CLEAN).astype(np.int8)),
        })

    def _plays(self, number: int, day: Day) -> pa.Table:
        rng = stream(self.seed, "plays", number)
        plays = day.plays
        at = self.micros(number, plays["second"]) + rng.integers(0, MICRO, len(plays["second"]))
        ended = at + plays["watched_seconds"].astype(np.int64) * MICRO  # how much was watched is known at the end
        received, late = self._received(rng, at, ended + rng.integers(MICRO, 30 * MICRO, len(at)))
        slate = self._slate_ids(number, np.maximum(plays["session"], 0))
        return pa.table({
            "event_id": _ids("p", self.world.recipe.date(number), np.arange(len(at))),
            "event_time": _times(at), "received_at": _times(received),
            "profile_id": self._profile_ids.take(pa.array(plays["profile"])),
            "title_id": self._title_ids.take(pa.array(plays["title"])),
            "watched_seconds": pa.array(plays["watched_seconds"].astype(float)),
            "runtime_seconds": pa.array(self.world.catalogue.runtime_minutes[plays["title"]] * 60.0),
            "slate_id": pc.if_else(pa.array(plays["session"] != UNKNOWN), slate, pa.scalar(None, pa.string())),
            "surface": _choice(SURFACES, plays["surface"]), "device": _choice(DEVICES, plays["device"]),
            DEFECT: pa.array(np.where(late, LATE, CLEAN).astype(np.int8)),
        })

    def _skips(self, number: int, day: Day) -> pa.Table:
        rows = self._small("skips", "k", number, day.skips)
        return rows.append_column("slate_id", self._slate_ids(number, day.skips["session"]))

    def _ratings(self, number: int, day: Day) -> pa.Table:
        rows = self._small("ratings", "r", number, day.ratings)
        return rows.append_column("rating", pa.array(day.ratings["rating"].astype(float)))

    def _small(self, table: str, prefix: str, number: int, events: dict[str, np.ndarray]) -> pa.Table:
        rng = stream(self.seed, table, number)
        at = self.micros(number, events["second"])
        received, late = self._received(rng, at, at + rng.integers(MICRO, 20 * MICRO, len(at)))
        return pa.table({
            "event_id": _ids(prefix, self.world.recipe.date(number), np.arange(len(at))),
            "event_time": _times(at), "received_at": _times(received),
            "profile_id": self._profile_ids.take(pa.array(events["profile"])),
            "title_id": self._title_ids.take(pa.array(events["title"])),
            DEFECT: pa.array(np.where(late, LATE, CLEAN).astype(np.int8)),
        })

    def _slate_ids(self, number: int, session: np.ndarray) -> pa.Array:
        return _ids("s", self.world.recipe.date(number), session)

    # --- planted defects ------------------------------------------------------------------------------------------

    def _received(self, rng: np.random.Generator, at: np.ndarray, promptly: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Times of receipt, and which are late: an hour to three days after the event, half a day on average."""
        late = rng.random(len(at)) < self.world.recipe.late
        delay = np.clip(rng.exponential(12 * 3600, len(at)), 3600, 3 * DAY_SECONDS) * MICRO
        return np.where(late, promptly + delay.astype(np.int64), promptly), late

    def _with_duplicates(self, table: str, number: int, rows: pa.Table) -> pa.Table:
        """Some records twice: the same event id and content, received again up to ten minutes later that same day."""
        rng = stream(self.seed, f"duplicates of {table}", number)
        again = rows.take(pa.array(np.flatnonzero(rng.random(rows.num_rows) < self.world.recipe.duplicated)))
        received = np.asarray(again["received_at"].cast(pa.int64()))
        midnight = received - (received - self._start) % DAY_MICROS + DAY_MICROS
        later = np.minimum(received + rng.integers(1, 600, len(received)) * MICRO, midnight - 1)
        again = _replaced(again, {"received_at": _times(later), DEFECT: pa.array(np.full(len(received), DUPLICATE, np.int8))})
        return pa.concat_tables([rows, again])

    def _malformed(self, table: str, number: int, rows: pa.Table) -> Malformed:
        """Broken copies of some records under event ids of their own."""
        rng = stream(self.seed, f"malformed {table}", number)
        chosen = np.flatnonzero(rng.random(rows.num_rows) < self.world.recipe.malformed)
        kinds = tuple(_BREAKS[table])
        out = Malformed()
        for index, record in enumerate(rows.take(pa.array(chosen)).to_pylist()):
            kind = kinds[int(rng.integers(len(kinds)))]
            out.received_day.append(int((record["received_at"].timestamp() * MICRO - self._start) // DAY_MICROS))
            out.kinds.append(kind)
            out.lines.append(_broken(table, kind, record, f"m{record['event_id']}-{index}"))
        return out

    # --- what is declared -----------------------------------------------------------------------------------------

    def declared(self) -> dict[str, pa.Table]:
        """All versions of titles, licences, households and profiles up to the horizon; the landing takes those that
        are received in its interval."""
        return {"titles": self._titles(), "licences": self._licences(),
                "households": self._households(), "profiles": self._profiles()}

    def _titles(self) -> pa.Table:
        catalogue = self.world.catalogue
        count = len(catalogue)
        second = np.flatnonzero(catalogue.second_version_day != FOREVER)
        launched = np.where(catalogue.launch_day > 0, self.micros(catalogue.launch_day), self._before_start("launch", count))
        known = np.where(catalogue.launch_day > 0, self.micros(np.maximum(catalogue.launch_day - 2, 0), 8 * 3600), self.micros(0))
        maturity = np.concatenate([catalogue.maturity, catalogue.later_maturity[second]])
        rows = np.concatenate([np.arange(count), second])
        known_at = np.concatenate([known, self.micros(catalogue.second_version_day[second], 11 * 3600)])
        series = catalogue.series[rows]
        return pa.table({
            "event_id": pa.array([f"t{row}-{version}" for version, row in _versions(rows, count)], pa.string()),
            "event_time": _times(known_at), "received_at": _times(known_at),
            "title_id": self._title_ids.take(pa.array(rows)),
            "valid_from": _times(np.concatenate([launched, known_at[count:]])),
            "name": pa.array(catalogue.names[rows], pa.string()),
            "kind": _choice(("movie", "series"), catalogue.is_series[rows].astype(int)),
            "synopsis": pa.array(catalogue.synopses[rows], pa.string()),
            "genres": pa.array([catalogue.genres[i] for i in rows], pa.list_(pa.string())),
            "credits": pa.array([catalogue.credits[i] for i in rows], pa.list_(pa.string())),
            "language": _choice(LANGUAGES, catalogue.language[rows]),
            "year": pa.array(catalogue.year[rows]),
            "runtime_minutes": pa.array(catalogue.runtime_minutes[rows]),
            "maturity": pa.array(maturity, mask=maturity == UNKNOWN),
            "series_id": pa.array([None if s == UNKNOWN else f"series{s:05d}" for s in series], pa.string()),
            "launched_at": _times(launched[rows]),
        })

    def _licences(self) -> pa.Table:
        windows = self.world.catalogue.windows
        count = len(windows.title)
        revised = np.flatnonzero(windows.revised_on < self.world.recipe.history_days + self.world.recipe.horizon_days)
        rows = np.concatenate([np.arange(count), revised])
        first_known = np.where(windows.known_on > 0, self.micros(windows.known_on, 9 * 3600), self.micros(0))
        # a window of a title that arrives later is known just after the title
        launch = self.world.catalogue.launch_day[windows.title]
        title_known = self.micros(np.maximum(launch - 2, 0), 9 * 3600)
        first_known = np.where(launch > 0, np.maximum(first_known, title_known), first_known)
        known_at = np.concatenate([first_known, self.micros(np.maximum(windows.revised_on[revised], 0), 10 * 3600)])
        closes = np.concatenate([windows.first_said, windows.closes[revised]])
        codes = [m.code for m in MARKETS]
        return pa.table({
            "event_id": pa.array([f"l{row}-{version}" for version, row in _versions(rows, count)], pa.string()),
            "event_time": _times(known_at), "received_at": _times(known_at),
            "window_id": pa.array([f"w{row}" for row in rows], pa.string()),
            "title_id": self._title_ids.take(pa.array(windows.title[rows])),
            "market": _choice(codes, windows.market[rows]),
            "opens_at": _times(self.micros(windows.opens[rows])),
            "closes_at": pa.array(self.micros(np.minimum(closes, 100_000)), landing.ARROW_TYPES["timestamp"], mask=closes >= FOREVER),
            "revoked": pa.array(np.zeros(len(rows), bool)),
        })

    def _households(self) -> pa.Table:
        people = self.world.population
        _, first = np.unique(people.household_ids.astype(str), return_index=True)
        known = self.micros(people.joined_day[first])
        return pa.table({
            "event_id": pc.binary_join_element_wise(self._household_ids.take(pa.array(first)), "0", "-"),
            "event_time": _times(known), "received_at": _times(known),
            "household_id": self._household_ids.take(pa.array(first)),
            "market": _choice([m.code for m in MARKETS], people.market[first]),
        })

    def _profiles(self) -> pa.Table:
        """One version on joining; one in fifty changes the declared genres once."""
        people = self.world.population
        count = len(people)
        rng = stream(self.seed, "profile versions")
        last = self.world.recipe.history_days + self.world.recipe.horizon_days
        changing = np.flatnonzero((rng.random(count) < 0.02) & (people.joined_day < last - 2))
        changed_on = rng.integers(people.joined_day[changing] + 1, last)
        rows = np.concatenate([np.arange(count), changing])
        known = np.concatenate([self.micros(people.joined_day, np.arange(count) % 600), self.micros(changed_on, 12 * 3600)])
        genres = people.preferred_genres + [people.preferred_genres[i][::-1][:2] for i in changing]
        return pa.table({
            "event_id": pa.array([f"{people.ids[row]}-{version}" for version, row in _versions(rows, count)], pa.string()),
            "event_time": _times(known), "received_at": _times(known),
            "profile_id": self._profile_ids.take(pa.array(rows)),
            "household_id": self._household_ids.take(pa.array(rows)),
            "market": _choice([m.code for m in MARKETS], people.market[rows]),
            "is_kids": pa.array(people.is_kids[rows]),
            "maturity_limit": pa.array(people.limit[rows].astype(np.int32)),
            "preferred_genres": pa.array(genres, pa.list_(pa.string())),
            "language": _choice(LANGUAGES, people.language[rows]),
            "attributes": pa.array([people.attributes[i] for i in rows], pa.list_(pa.string())),
        })

    def _before_start(self, purpose: str, size: int) -> np.ndarray:
        return self.micros(-stream(self.seed, f"before the start: {purpose}").integers(30, 2000, size))


def _replaced(rows: pa.Table, columns: dict[str, pa.Array]) -> pa.Table:
    for name, values in columns.items():
        rows = rows.set_column(rows.column_names.index(name), name, values)
    return rows


def _versions(rows: np.ndarray, first_versions: int) -> list[tuple[int, int]]:
    return [(int(place >= first_versions), int(row)) for place, row in enumerate(rows)]


def _ids(prefix: str, day: Any, numbers: np.ndarray) -> pa.Array:
    text = pc.utf8_lpad(pa.array(numbers).cast(pa.string()), 7, "0")
    return pc.binary_join_element_wise(f"{prefix}{day:%Y%m%d}", text, "-")


def _times(micros: np.ndarray) -> pa.Array:
    return pa.array(np.asarray(micros, np.int64)).cast(landing.ARROW_TYPES["timestamp"])


def _constant(value: str, size: int) -> pa.Array:
    return pa.repeat(pa.scalar(value), size)


def _choice(values: tuple[str, ...] | list[str], index: np.ndarray) -> pa.Array:
    return pa.array(list(values), pa.string()).take(pa.array(np.asarray(index, np.int64)))


# what is wrong with a malformed record, by table: kind -> the fields that change (None: the field is missing)
_BREAKS: dict[str, dict[str, dict[str, Any]]] = {
    "impressions": {
        "missing profile": {"profile_id": None},
        "position as text": {"position": "first"},
        "position zero": {"position": 0},
        "unknown title": {"title_id": UNKNOWN_TITLE},
    },
    "plays": {
        "missing title": {"title_id": None},
        "watched as text": {"watched_seconds": "about an hour"},
        "unreadable time": {"event_time": "yesterday evening"},
        "future time": {"event_time": "2199-01-01T00:00:00.000000Z"},
        "unknown title": {"title_id": UNKNOWN_TITLE},
    },
}


def _broken(table: str, kind: str, record: dict[str, Any], event_id: str) -> dict[str, Any]:
    whole = {name: value.strftime("%Y-%m-%dT%H:%M:%S.%fZ") if isinstance(value, datetime) else value
             for name, value in record.items() if name != DEFECT}
    whole |= {"event_id": event_id} | _BREAKS[table][kind]
    return {name: value for name, value in whole.items() if value is not None}

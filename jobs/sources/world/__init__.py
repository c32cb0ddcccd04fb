"""A simulated streaming service that lands its days: deterministic in (recipe, seed), vectorised, day by day.

    recipes → catalogue, population → slates → behaviour → records → landing
                                        ▲ shown (the live release's shelves, from the second night on)

`truth` is for tests and benchmarks. Nothing here knows the lake, features or models.
"""

import json
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from rich.progress import track

from contracts.errors import UsageError
from contracts.landing import Interval, read_marker
from contracts.settings import Settings
from jobs.runtime import progress_visible, require_free_disk
from jobs.sources.landing import Landing, advance_clock, landed_by
from jobs.sources.world import catalogue, population, state, truth
from jobs.sources.world.behaviour import Memory, ShownTitles, World
from jobs.sources.world.recipes import WorldRecipe, world_recipe
from jobs.sources.world.records import DEFECT, DUPLICATE, EVENT_TABLES, LATE, Malformed, Writer
from jobs.sources.world.shown import LiveShelves

SOURCE = "world"
DEFAULT_RECIPE, DEFAULT_SEED = "demo", 7

__all__ = ["SOURCE", "build", "land"]


def land(settings: Settings, recipe: str | None = None, seed: int | None = None, next_day: bool = False) -> dict[str, Any]:
    """Lands the history and the day after it, or with `next_day` the day after the last landed one.

    Landing what has landed changes nothing and gives the same result. Returns ds, intervals, records per table and, by
    release, how many slates it ranked. Raises UsageError for an unknown recipe, for another world or source than the one
    that the home has, and for `next_day` before any history or beyond the horizon.
    """
    landed = landed_by(settings.landing, SOURCE)
    name, number = _which_world(settings.home, landed, recipe, seed)
    chosen = world_recipe(name)
    first_night = chosen.last_history_day + timedelta(days=1)
    if next_day:
        if not landed or landed[-1].last < first_night:
            raise UsageError(f"{settings.landing}: no history to go on from; run `marquee land world` first")
        night = landed[-1].last + timedelta(days=1)
        if chosen.day(night) >= chosen.history_days + chosen.horizon_days:
            raise UsageError(f"{night}: the world ends {chosen.horizon_days} days after its history; start a new one")
        intervals = [Interval(night, night)]
    else:
        intervals = [Interval(chosen.first_day, chosen.last_history_day), Interval(first_night, first_night)]
    if not set(intervals) <= set(landed):
        require_free_disk(settings)
        world = build(chosen, number)
        truth.write(settings.home, world)
        if next_day:
            _land_day(settings, world, intervals[0])
        else:
            _land_history(settings, world, intervals)
    advance_clock(settings.home, intervals[-1])
    return _result(settings.landing, intervals)


def build(recipe: WorldRecipe, seed: int) -> World:
    """The world of (recipe, seed): all its titles and profiles, and no day yet."""
    return World(recipe, seed, catalogue.make(recipe, seed), population.make(recipe, seed))


# --- landing ------------------------------------------------------------------------------------------------------

def _land_history(settings: Settings, world: World, intervals: list[Interval]) -> None:
    """History as one bulk interval by event day, then the first night."""
    history, night = intervals
    writer = Writer(world, world.seed)
    memory, pending = Memory.fresh(len(world.population)), {}
    planted = _Planted()
    with Landing(settings.landing, history, SOURCE, _extra(world, {"bootstrap": None})) as out:
        _write_declared(out, writer, 0, world.recipe.history_days - 1, by_day=True)
        days = range(world.recipe.history_days)
        for day in track(days, "simulating the history", disable=not progress_visible()):
            tables, malformed = writer.events(day, world.simulate(day, memory))
            partition = f"event_day={world.recipe.date(day)}"
            for name in EVENT_TABLES:
                now, later = _received_by(writer, tables[name], world.recipe.history_days - 1)
                out.write(name, _without_defect(now), partition)
                planted.rows(name, now)
                pending[name] = _joined(pending.get(name), later)
                _write_malformed(out, planted, name, malformed.get(name), world.recipe.history_days - 1, partition)
    truth.add_planted(settings.home, history.name, planted.counts)
    _simulate_and_land(settings, world, writer, night, memory, pending, shown=None)


def _land_day(settings: Settings, world: World, night: Interval) -> None:
    """The next day, its slates ranked by the live release."""
    memory, pending = state.load(settings.home, night.first - timedelta(days=1))
    _simulate_and_land(settings, world, Writer(world, world.seed), night, memory, pending, LiveShelves(settings, world))


def _simulate_and_land(settings: Settings, world: World, writer: Writer, night: Interval, memory: Memory,
                       pending: dict[str, pa.Table], shown: ShownTitles | None) -> None:
    day = world.recipe.day(night.first)
    simulated = world.simulate(day, memory, shown)
    tables, malformed = writer.events(day, simulated)
    planted, later = _Planted(), {}
    received: dict[str, pa.Table] = {}
    for name in EVENT_TABLES:
        received[name], later[name] = _received_by(writer, _joined(pending.get(name), tables[name]), day)
        planted.rows(name, received[name])
    # memory first: an interval that has landed can always be gone on from
    state.save(settings.home, night.last, memory, later)
    with Landing(settings.landing, night, SOURCE, _extra(world, Counter(simulated.release.tolist()))) as out:
        _write_declared(out, writer, day, day, by_day=False)
        for name in EVENT_TABLES:
            out.write(name, _without_defect(received[name]))
            _write_malformed(out, planted, name, malformed.get(name), day)
        truth.add_planted(settings.home, night.name, planted.counts)


def _write_declared(out: Landing, writer: Writer, first: int, last: int, by_day: bool) -> None:
    for name, rows in writer.declared().items():
        day_of = writer.day_of(rows["received_at"])
        for start, end in ((d, d) for d in range(first, last + 1)) if by_day else ((first, last),):
            chosen = rows.filter(pa.array((day_of >= start) & (day_of <= end)))
            out.write(name, chosen, f"event_day={writer.world.recipe.date(start)}" if by_day else "")


def _write_malformed(out: Landing, planted: "_Planted", table: str, malformed: Malformed | None, last: int, partition: str = "") -> None:
    if malformed is None:
        return
    chosen = [i for i, day in enumerate(malformed.received_day) if day <= last]
    out.write_lines(table, [malformed.lines[i] for i in chosen], partition)
    planted.malformed(table, [malformed.kinds[i] for i in chosen])


class _Planted:
    """Counts of what landed, by table: clean, late, duplicates, malformed by kind."""

    def __init__(self) -> None:
        self.counts: dict[str, dict[str, Any]] = {}

    def rows(self, table: str, rows: pa.Table) -> None:
        defect = np.asarray(rows[DEFECT])
        counts = self.counts.setdefault(table, {"clean": 0, "late": 0, "duplicates": 0, "malformed": {}})
        counts["late"] += int((defect == LATE).sum())
        counts["duplicates"] += int((defect == DUPLICATE).sum())
        counts["clean"] += int((defect != DUPLICATE).sum())

    def malformed(self, table: str, kinds: list[str]) -> None:
        found = self.counts[table]["malformed"]
        self.counts[table]["malformed"] = dict(sorted((Counter(found) + Counter(kinds)).items()))


def _received_by(writer: Writer, rows: pa.Table, day: int) -> tuple[pa.Table, pa.Table]:
    """Rows received up to the end of that day, ordered by event, and the rest."""
    now = writer.day_of(rows["received_at"]) <= day
    chosen = rows.filter(pa.array(now))
    return chosen.sort_by([("event_time", "ascending"), ("event_id", "ascending"), ("received_at", "ascending")]), rows.filter(pa.array(~now))


def _joined(one: pa.Table | None, two: pa.Table) -> pa.Table:
    return two if one is None else pa.concat_tables([one, two])


def _without_defect(rows: pa.Table) -> pa.Table:
    return rows.drop_columns([DEFECT])


def _extra(world: World, shown_by: dict[str, int | None]) -> dict[str, Any]:
    """What a world's marker says besides: how many slates which release ranked (null: all)."""
    return {"recipe": world.recipe.name, "seed": world.seed, "shown_by": dict(sorted(shown_by.items()))}


# --- what a home has ----------------------------------------------------------------------------------------------

def _which_world(home: Path, landed: list[Interval], recipe: str | None, seed: int | None) -> tuple[str, int]:
    """Recipe and seed: those that the home began with, which what is asked for must not contradict."""
    if not landed:
        return recipe or DEFAULT_RECIPE, DEFAULT_SEED if seed is None else seed
    began = json.loads((home / truth.FOLDER / "world.json").read_text())
    for name, asked in (("recipe", recipe), ("seed", seed)):
        if asked is not None and asked != began[name]:
            raise UsageError(f"{home}: its world has --{name} {began[name]}, not {asked}; use another MARQUEE_HOME")
    return began["recipe"], began["seed"]


def _result(landing: Path, intervals: list[Interval]) -> dict[str, Any]:
    records, shown_by = Counter(), {}
    for interval in intervals:
        marker = read_marker(landing / interval.name)
        records.update(marker["tables"])
        shown_by = marker["shown_by"]
    return {
        "ds": str(intervals[-1].last), "source": SOURCE, "recipe": marker["recipe"], "seed": marker["seed"],
        "intervals": [interval.name for interval in intervals], "records": dict(sorted(records.items())), "shown_by": shown_by,
    }

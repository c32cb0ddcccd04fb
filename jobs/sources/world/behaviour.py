"""What people do on a day: sessions, what they look at on the slate, what they play, skip, finish, abandon and rate, and
what they play by themselves (the next episode, more of this, a search).

Shape suffixes: B sessions, S slots, T titles, K topics.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from contracts.query import DEVICES
from jobs.sources.world import slates
from jobs.sources.world.catalogue import UNKNOWN, Catalogue
from jobs.sources.world.population import LIMITS, Population
from jobs.sources.world.randomness import pick_by_weight, pick_per_row, stream
from jobs.sources.world.recipes import WorldRecipe
from jobs.sources.world.slates import EMPTY, Audience, affinity
from jobs.sources.world.words import MARKETS

DAY_SECONDS = 86_400
ATTENTION_SCALE = {"tv": 5.0, "mobile": 2.5, "tablet": 4.0, "web": 6.0}
"""Slots until attention has fallen by about half: a phone shows fewer at once."""

SURFACES = ("home", "continue", "similar", "search")
PLAYS_OF_OWN_ACCORD = 3  # rounds a session
MOST_PLAYS_FROM_SLATE = 3

# local hours: adults peak at 21, kids at 17
_ADULT_RHYTHM = np.array([3, 2, 1, 1, 1, 1, 2, 3, 3, 3, 3, 4, 5, 5, 4, 4, 5, 6, 8, 11, 14, 15, 12, 7], float)
_KIDS_RHYTHM = np.array([0, 0, 0, 0, 0, 0, 3, 6, 5, 4, 4, 4, 4, 4, 5, 8, 11, 12, 10, 6, 2, 0, 0, 0], float)


def attention(position: np.ndarray, device: np.ndarray) -> np.ndarray:
    """Probability that a slot (from 1) is looked at; `device` indexes DEVICES."""
    scale = np.array([ATTENTION_SCALE[name] for name in DEVICES])[device]
    return (1.0 + (position - 1) / scale) ** -1.15


@dataclass
class Memory:
    """What the world remembers from day to day."""

    watched: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))  # sorted profile * T + title
    last_engaged: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))  # (P,) title, UNKNOWN: none

    @classmethod
    def fresh(cls, profiles: int) -> "Memory":
        return cls(np.zeros(0, np.int64), np.full(profiles, UNKNOWN))

    def has_watched(self, keys: np.ndarray) -> np.ndarray:
        if not len(self.watched):
            return np.zeros(keys.shape, bool)
        place = np.minimum(np.searchsorted(self.watched, keys), len(self.watched) - 1)
        return self.watched[place] == keys


@dataclass
class Sessions:
    """(B,) each, ordered by (second, profile)."""

    profile: np.ndarray
    second: np.ndarray  # of the UTC day
    device: np.ndarray  # index into DEVICES

    def __len__(self) -> int:
        return len(self.profile)


@dataclass
class Day:
    """The clean events of one day; seconds of the UTC day, `session` numbers the day's slates."""

    sessions: Sessions
    slates: slates.Slates  # (B,S)
    release: np.ndarray  # (B,) str objects: which release ranked the slate
    plays: dict[str, np.ndarray]  # profile, title, second, watched_seconds, session (UNKNOWN: no slate), surface, device
    skips: dict[str, np.ndarray]  # profile, title, second, session
    ratings: dict[str, np.ndarray]  # profile, title, second, rating


ShownTitles = Callable[[Sessions], tuple[np.ndarray, np.ndarray]]
"""Asks somebody else (the live release) for the ranking of every session: (B,S) titles, EMPTY where it has none, and
(B,) release ids, "" where nobody answered."""


class World:
    """One simulated service: what never changes (catalogue, population) and what a day makes of it."""

    def __init__(self, recipe: WorldRecipe, seed: int, catalogue: Catalogue, population: Population) -> None:
        self.recipe, self.seed, self.catalogue, self.population = recipe, seed, catalogue, population
        self._strand_order, self._strand_offsets = catalogue.strand_members()
        self._strictest = catalogue.strictest_maturity()
        self._believed_noise = stream(seed, "believed").dirichlet(
            np.full(catalogue.topic_TK.shape[1], 0.3), len(population)).astype(np.float32)

    def popularity(self, day: int) -> np.ndarray:
        """(T,) hidden logits: quality, and a launch's novelty that fades within a week or so."""
        age = np.maximum(day - self.catalogue.launch_day, 0)
        new = np.where(self.catalogue.launch_day > 0, 1.2 * np.exp(-age / 6.0), 0.0)
        return 1.3 * self.catalogue.quality + new

    def licensed(self, day: int) -> np.ndarray:
        """(M,T) bool."""
        return self.catalogue.windows.licensed(day, len(self.catalogue), self.recipe.markets)

    def liking(self, profile: np.ndarray, title: np.ndarray, day: int, last_engaged: np.ndarray) -> np.ndarray:
        """(B,...) true relevance of titles (B,...) to profiles (B,): the answer that a model looks for.

        `last_engaged` (B,) is the title that each finished last (UNKNOWN: none): one waits for its next episode.
        """
        taste_BK = self.population.taste(profile, day)
        shape = (len(profile),) + (1,) * (title.ndim - 1)
        same_language = self.catalogue.language[title] == self.population.language[profile].reshape(shape)
        following = np.where(last_engaged == UNKNOWN, UNKNOWN, self.catalogue.next_in_series[last_engaged]).reshape(shape)
        return (
            5.0 * affinity(taste_BK, self.catalogue.topic_TK, title)
            + 0.5 * self.catalogue.quality[title]
            + 0.4 * same_language
            + 2.0 * ((following == title) & (following != UNKNOWN))
        )

    def simulate(self, day: int, memory: Memory, shown: ShownTitles | None = None) -> Day:
        """The events of `day` (0: the first), and `memory` brought up to its end."""
        sessions = self._sessions(day)
        ranked_BS = np.full((len(sessions), self.recipe.slate_size), EMPTY)
        release = np.full(len(sessions), "", object)
        if shown is not None and len(sessions):
            ranked_BS, release = shown(sessions)
        parts = [self._audience_day(day, market, limit, rows, sessions, ranked_BS, release, memory)
                 for market, limit, rows in self._audiences(sessions)]
        release[release == ""] = "bootstrap"
        out = self._gather(sessions, release, parts)
        self._remember(memory, out)
        return out

    # --- who is there ---------------------------------------------------------------------------------------------

    def _sessions(self, day: int) -> Sessions:
        rng = stream(self.seed, "sessions", day)
        weekday = self.recipe.date(day).weekday()
        factor = 1.25 if weekday >= 5 else 0.9
        people = self.population.active_on(day)
        profile = np.repeat(people, rng.poisson(self.population.activity[people] * factor))
        hour = np.where(self.population.is_kids[profile],
                        pick_by_weight(rng, _KIDS_RHYTHM, len(profile)), pick_by_weight(rng, _ADULT_RHYTHM, len(profile)))
        offset = np.array([m.utc_offset for m in MARKETS])[self.population.market[profile]]
        second = ((hour - offset) % 24) * 3600 + rng.integers(0, 3600, len(profile))
        second = np.maximum(second, 900)  # those who join today have joined by then
        device = pick_per_row(rng, self.population.device_PD[profile])
        order = np.lexsort((profile, second))
        return Sessions(profile[order], second[order], device[order])

    def _audiences(self, sessions: Sessions):
        market, limit = self.population.market[sessions.profile], self.population.limit[sessions.profile]
        for m in range(self.recipe.markets):
            for one in LIMITS:
                rows = np.flatnonzero((market == m) & (limit == one))
                if len(rows):
                    yield m, one, rows

    # --- what they see and do -------------------------------------------------------------------------------------

    def _audience_day(self, day: int, market: int, limit: int, rows: np.ndarray, sessions: Sessions,
                      ranked_BS: np.ndarray, release: np.ndarray, memory: Memory) -> dict[str, np.ndarray]:
        """Everything that one audience's sessions `rows` show and do."""
        rng = stream(self.seed, "audience", day, market, limit)
        popularity_T = self.popularity(day)
        may_show_T = self._licensed_on(day)[market] & (self._strictest <= limit)
        eligible_N = np.flatnonzero(may_show_T)
        if not len(eligible_N):
            return {}
        audience = Audience(eligible_N, may_show_T, popularity_T[eligible_N], self.catalogue.topic_TK)
        profile, device = sessions.profile[rows], sessions.device[rows]
        base_B = profile.astype(np.int64) * len(self.catalogue)
        last_B = memory.last_engaged[profile]
        taste_BK = self.population.taste(profile, day)
        believed_BK = 0.5 * taste_BK + 0.5 * self._believed_noise[profile]
        own_BS = slates.rank(rng, audience, popularity_T, believed_BK, lambda t: memory.has_watched(base_B[:, None] + t),
                             self.recipe.slate_size)
        mine_BS = np.where((release[rows] == "")[:, None], own_BS, ranked_BS[rows])
        slate = slates.explore(rng, audience, mine_BS, self.recipe.exploration)
        liking_BS = self.liking(profile, slate.title, day, last_B) - 6.0 * memory.has_watched(base_B[:, None] + slate.title)
        seen_BS = (rng.random(slate.title.shape) < attention(np.arange(1, slate.title.shape[1] + 1)[None, :], device[:, None]))
        seen_BS &= slate.title != EMPTY
        wanted_BS = seen_BS & (rng.random(slate.title.shape) < _sigmoid(1.25 * liking_BS - 5.4))
        wanted_BS &= np.cumsum(wanted_BS, axis=1) <= MOST_PLAYS_FROM_SLATE
        skipped_BS = seen_BS & ~wanted_BS & (rng.random(slate.title.shape) < 0.08 * _sigmoid(2.0 - 1.5 * liking_BS))
        row, slot = np.nonzero(wanted_BS)
        played = [(row, slate.title[row, slot], np.zeros(len(row), int))]
        anchor_B = np.where(wanted_BS.any(axis=1), slate.title[np.arange(len(rows)), wanted_BS.argmax(axis=1)], last_B)
        for _ in range(PLAYS_OF_OWN_ACCORD):
            title_B, surface_B = self._of_own_accord(rng, audience, taste_BK, anchor_B)
            known = memory.has_watched(base_B + np.maximum(title_B, 0))
            row = np.flatnonzero((title_B != EMPTY) & ~known)
            played.append((row, title_B[row], surface_B[row]))
            anchor_B = np.where((title_B != EMPTY) & ~known, title_B, anchor_B)
        plays = self._watch(rng, day, profile, sessions.second[rows], last_B, played)
        skip_row, skip_slot = np.nonzero(skipped_BS)
        return {
            "rows": rows, "title": slate.title, "propensity": slate.propensity, "explored": slate.explored,
            **{f"play_{name}": values for name, values in plays.items()},
            "play_row": rows[plays["row"]],
            "skip_row": rows[skip_row], "skip_title": slate.title[skip_row, skip_slot],
            "skip_second": sessions.second[rows[skip_row]] + 5 + 3 * skip_slot,
        }

    def _licensed_on(self, day: int) -> np.ndarray:
        if getattr(self, "_licensed_day", None) != day:
            self._licensed_day, self._licensed_now = day, self.licensed(day)
        return self._licensed_now

    def _of_own_accord(self, rng: np.random.Generator, audience: Audience, taste_BK: np.ndarray,
                       anchor_B: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(B,) title that each session turns to by itself (EMPTY: none), and the surface that led there."""
        rows = len(anchor_B)
        draw = rng.random(rows)
        has_anchor = anchor_B != UNKNOWN
        following_B = np.where(has_anchor, self.catalogue.next_in_series[anchor_B], UNKNOWN)
        following_B = np.where((following_B != UNKNOWN) & audience.may_show_T[following_B], following_B, EMPTY)
        strand = self.catalogue.strand[anchor_B]
        start, end = self._strand_offsets[strand], self._strand_offsets[strand + 1]
        similar_B = self._strand_order[start + (rng.random(rows) * (end - start)).astype(int)]
        similar_B = np.where(has_anchor & audience.may_show_T[similar_B] & (similar_B != anchor_B), similar_B, EMPTY)
        searched_B = audience.draw_by_taste(rng, taste_BK, 1)[:, 0]
        searched_B = np.where(rng.random(rows) < 0.35, searched_B, EMPTY)
        title = np.where((draw < 0.6) & (following_B != EMPTY), following_B,
                         np.where((draw > 0.4) & (draw < 0.75) & (similar_B != EMPTY), similar_B, searched_B))
        surface = np.where(title == following_B, 1, np.where(title == similar_B, 2, 3))
        return title, surface

    def _watch(self, rng: np.random.Generator, day: int, profile: np.ndarray, second: np.ndarray, last_engaged: np.ndarray,
               played: list[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> dict[str, np.ndarray]:
        """Plays one after the other within each session; a title is started once a day by a profile, and what would
        start after midnight is not started."""
        row = np.concatenate([p[0] for p in played])
        title = np.concatenate([p[1] for p in played])
        surface = np.concatenate([p[2] for p in played])
        order = np.lexsort((np.arange(len(row)), row))
        row, title, surface = row[order], title[order], surface[order]
        _, first = np.unique(profile[row].astype(np.int64) * len(self.catalogue) + title, return_index=True)
        first.sort()
        row, title, surface = row[first], title[first], surface[first]
        liking = self.liking(profile[row], title, day, last_engaged[row])
        finished = rng.random(len(row)) < _sigmoid(1.3 * liking - 3.4)
        completion = np.where(finished, rng.uniform(0.9, 1.0, len(row)), rng.beta(1.1, 2.2, len(row)) * 0.9)
        watched = np.round(completion * self.catalogue.runtime_minutes[title] * 60)
        gap = rng.integers(15, 120, len(row))
        total = np.cumsum(watched + gap)
        starts_session = np.concatenate([[True], row[1:] != row[:-1]]) if len(row) else np.zeros(0, bool)
        before_session = (total - watched - gap)[starts_session][np.cumsum(starts_session) - 1]
        start = second[row] + (total - watched - before_session).astype(int)
        keep = start < DAY_SECONDS
        rated = rng.random(len(row)) < 0.06
        rating = np.clip(np.round((2.6 + 0.45 * liking + rng.normal(0, 0.6, len(row))) * 2) / 2, 0.5, 5)
        return {name: values[keep] for name, values in {
            "row": row, "title": title, "surface": surface, "second": start, "watched_seconds": watched,
            "completion": completion, "rating": np.where(rated, rating, np.nan),
        }.items()}

    # --- the day as a whole ---------------------------------------------------------------------------------------

    def _gather(self, sessions: Sessions, release: np.ndarray, parts: list[dict[str, np.ndarray]]) -> Day:
        shape = (len(sessions), self.recipe.slate_size)
        whole = slates.Slates(np.full(shape, EMPTY), np.zeros(shape), np.zeros(shape, bool))
        parts = [part for part in parts if part]
        for part in parts:
            whole.title[part["rows"]] = part["title"]
            whole.propensity[part["rows"]] = part["propensity"]
            whole.explored[part["rows"]] = part["explored"]

        def column(name: str) -> np.ndarray:
            return np.concatenate([part[name] for part in parts]) if parts else np.zeros(0, int)

        row = column("play_row")
        plays = {
            "profile": sessions.profile[row], "title": column("play_title"), "second": column("play_second"),
            "watched_seconds": column("play_watched_seconds"), "completion": column("play_completion"),
            "session": np.where(column("play_surface") == 0, row, UNKNOWN), "surface": column("play_surface"),
            "device": sessions.device[row], "rating": column("play_rating"),
        }
        plays = self._once_a_day(_ordered(plays))
        rated = np.flatnonzero(~np.isnan(plays["rating"]))
        ratings = {name: plays[name][rated] for name in ("profile", "title", "rating")}
        ratings["second"] = np.minimum(plays["second"][rated] + plays["watched_seconds"][rated].astype(int) + 20, DAY_SECONDS - 1)
        skips = {"profile": sessions.profile[column("skip_row")], "title": column("skip_title"),
                 "second": np.minimum(column("skip_second"), DAY_SECONDS - 1), "session": column("skip_row")}
        return Day(sessions, whole, release, plays, _ordered(skips), _ordered(ratings))

    def _once_a_day(self, plays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The first of a profile's plays of one title on that day, over all its sessions."""
        _, first = np.unique(plays["profile"].astype(np.int64) * len(self.catalogue) + plays["title"], return_index=True)
        first.sort()
        return {name: values[first] for name, values in plays.items()}

    def _remember(self, memory: Memory, day: Day) -> None:
        plays = day.plays
        engaged = plays["completion"] >= 0.5
        keys = plays["profile"][engaged].astype(np.int64) * len(self.catalogue) + plays["title"][engaged]
        memory.watched = np.unique(np.concatenate([memory.watched, keys]))
        memory.last_engaged[plays["profile"][engaged]] = plays["title"][engaged]  # in order of time: the last one stays


def _ordered(columns: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    order = np.lexsort((columns["title"], columns["profile"], columns["second"]))
    return {name: values[order] for name, values in columns.items()}


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1.0 / (1.0 + np.exp(-x))



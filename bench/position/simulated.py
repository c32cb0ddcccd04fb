"""Logs, ranker rows and the true relevance of a simulated service (jobs/sources/world), without lake or towers.

A request's candidates are the eligible titles nearest to what a tower would know of the profile: its taste, half hidden.
Shape suffixes: B sessions, S slots, T titles, K candidates, P profiles.
"""

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from unittest import mock

import numpy as np

from contracts.features import Asker, Candidates
from contracts.marts import PROFILE_FEATURES, TITLE_FEATURES
from contracts.query import DEVICES, Context, Profile
from jobs.ranker.config import RankerConfig
from jobs.ranker.pool import Pool, Request
from jobs.ranker.rows import Slate
from jobs.sources import world
from jobs.sources.world import behaviour, truth
from jobs.sources.world.behaviour import Day, Memory, World
from jobs.sources.world.catalogue import UNKNOWN
from jobs.sources.world.recipes import WorldRecipe
from jobs.sources.world.slates import EMPTY, affinity

FLAT = 0.35
"""Attention of every place where there is no bias: about the mean of the biased one, for as many plays."""


SESSIONS_AT_ONCE = 4000


@contextmanager
def attention_of(flat: bool) -> Iterator[None]:
    """The world's attention, or the same at every place."""
    rule = (lambda position, device: np.full(np.broadcast(position, device).shape, FLAT)) if flat else behaviour.attention
    with mock.patch.object(behaviour, "attention", rule), mock.patch.object(truth, "attention", rule):
        yield


@dataclasses.dataclass(frozen=True)
class Service:
    """A world with its simulated days; `last_B` of a day is what each session's profile had finished before that day."""

    world: World
    days: list[Day]
    last: list[np.ndarray]  # (P,) of each day
    watched: list[np.ndarray]  # sorted keys profile * T + title, of each day

    @classmethod
    def simulate(cls, recipe: WorldRecipe, seed: int, days: int) -> "Service":
        made = world.build(recipe, seed)
        memory, out, last, watched = Memory.fresh(len(made.population)), [], [], []
        for day in range(days):
            last.append(memory.last_engaged.copy())
            watched.append(memory.watched)
            out.append(made.simulate(day, memory))
        return cls(made, out, last, watched)

    def impressions(self, days: range) -> dict[str, np.ndarray]:
        """Flat columns position, engaged, explored, title and device of the slates of these days."""
        parts = []
        for number in days:
            day = self.days[number]
            title_BS = day.slates.title
            shape = title_BS.shape
            there = title_BS != EMPTY
            engaged_BS = self._engaged(number)
            device_BS = np.broadcast_to(np.array(DEVICES)[day.sessions.device][:, None], shape)
            place_BS = np.broadcast_to(np.arange(1, shape[1] + 1), shape)
            parts.append({"position": place_BS[there], "engaged": engaged_BS[there], "explored": day.slates.explored[there],
                          "title": title_BS[there], "device": device_BS[there]})
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def logged_attention(self, days: range) -> np.ndarray:
        """(S,) what places do to the log, relative to place 1: logged plays over those that would be, were every place looked at.
        Beside attention it knows that a member stops after the third play, and that what would start after midnight, or was
        started that day, is not started."""
        plays_S, would_S = np.zeros(self.world.recipe.slate_size), np.zeros(self.world.recipe.slate_size)
        for number in days:
            title_BS, profile_B = self.days[number].slates.title, self.days[number].sessions.profile
            there_BS = title_BS != EMPTY
            plays_S += (there_BS & self._engaged(number)).sum(0)
            for rows in np.array_split(np.arange(len(title_BS)), len(title_BS) // SESSIONS_AT_ONCE + 1):
                shown = np.where(there_BS[rows], title_BS[rows], 0)
                liking = self.world.liking(profile_B[rows], shown, number, self.last[number][profile_B[rows]])
                liking -= 6.0 * np.isin(self._keys(profile_B[rows][:, None], shown), self.watched[number])
                would_S += (there_BS[rows] * behaviour._sigmoid(1.25 * liking - 5.4)).sum(0)
        rate_S = plays_S / np.maximum(would_S, 1e-9)
        return rate_S / rate_S[0]

    def _engaged(self, number: int) -> np.ndarray:
        """(B,S) the session played the title of that slot."""
        title_BS = self.days[number].slates.title
        return np.isin(self._keys(np.arange(len(title_BS))[:, None], title_BS), self.played(number))

    def played(self, number: int) -> np.ndarray:
        """Keys session * T + title of that day's plays from a slate."""
        plays = self.days[number].plays
        return self._keys(plays["session"], plays["title"])[plays["session"] != UNKNOWN]

    def _keys(self, row: np.ndarray, title: np.ndarray) -> np.ndarray:
        return row.astype(np.int64) * len(self.world.catalogue) + title


class Requests:
    """Pools of one day's sessions, with title counts up to two days before."""

    def __init__(self, service: Service, number: int, seed: int, config: RankerConfig):
        self.service, self.number, self.config = service, number, config
        self.day, self.world = service.days[number], service.world
        self.rng = np.random.default_rng([seed, number])
        people = self.world.population
        noise = np.random.default_rng(seed).dirichlet(np.full(people.early_PK.shape[1], 0.3), len(people))
        self.known_PK = 0.5 * people.taste(np.arange(len(people)), number) + 0.5 * noise
        self.strictest = self.world.catalogue.strictest_maturity()
        self.counts = self._counts()
        self.licensed = self.world.licensed(number)

    def sample(self, most: int) -> np.ndarray:
        """A random sample of the day's sessions."""
        return np.sort(self.rng.permutation(len(self.day.sessions))[:most])

    def pool(self, session: int) -> tuple[Pool, Slate, np.ndarray]:
        """The pool with what the log says was played, its slate, and the true probability of a play where every place is
        looked at (K,)."""
        catalogue, people = self.world.catalogue, self.world.population
        profile = self.day.sessions.profile[session]
        title_S = self.day.slates.title[session]
        watched = self.service.watched[self.number]
        start, end = np.searchsorted(watched, [profile * len(catalogue), (profile + 1) * len(catalogue)])
        allowed = self.licensed[people.market[profile]] & (self.strictest <= people.limit[profile])
        allowed[watched[start:end] - profile * len(catalogue)] = False
        rows = np.flatnonzero(allowed)
        score_T = affinity(self.known_PK[[profile]], catalogue.topic_TK, rows[None, :])[0]
        best = np.argsort(-score_T, kind="stable")[: self.config.pool_size]
        shown = np.setdiff1d(title_S[(title_S != EMPTY)], rows[best])
        shown = np.flatnonzero(np.isin(rows, shown))
        order = np.concatenate([best, shown])
        order = order[np.argsort(-score_T[order], kind="stable")]
        rows_K, score_K = rows[order], score_T[order]
        last_B = self.service.last[self.number][[profile]]
        liking_K = self.world.liking(np.array([profile]), rows_K[None, :], self.number, last_B)[0]
        follows = catalogue.next_in_series[last_B[0]] if last_B[0] != UNKNOWN else UNKNOWN
        names_K = catalogue.ids[rows_K]
        candidates = Candidates(
            list(names_K), score_K, (rows_K == follows).astype(np.float64) * (follows != UNKNOWN),
            np.zeros(len(rows_K)),  # its plays are of series: nothing is learnt of who watches what together
            {name: values[rows_K] for name, values in self.counts.items()}, [catalogue.genres[i] for i in rows_K],
            [str(catalogue.language[i]) for i in rows_K], [str(catalogue.series[i]) for i in rows_K])
        who = Profile(people.ids[profile], "", "", bool(people.is_kids[profile]), int(people.limit[profile]), (), str(people.language[profile]), ())
        moment = datetime(2026, 3, 1, tzinfo=UTC) + timedelta(days=self.number, seconds=int(self.day.sessions.second[session]))
        played = np.isin(session * len(catalogue) + title_S.astype(np.int64), self.service.played(self.number)) & (title_S != EMPTY)
        relevant = {catalogue.ids[t]: self._gain(session, t) for t in title_S[played]}
        device = DEVICES[self.day.sessions.device[session]]
        request = Request(f"{self.number:03d}-{session:06d}", who, Context(moment, device, "home"), dict.fromkeys(PROFILE_FEATURES), relevant)
        there = title_S != EMPTY
        columns = {name: self.counts[name][title_S[there]] for name in TITLE_FEATURES}
        slate = Slate({catalogue.ids[t]: i for i, t in enumerate(title_S[there])}, np.arange(1.0, there.sum() + 1), columns)
        return Pool(request, Asker(who, request.context), rows_K, candidates), slate, behaviour._sigmoid(1.25 * liking_K - 5.4)

    def _gain(self, session: int, title: int) -> int:
        plays = self.day.plays
        row = np.flatnonzero((plays["session"] == session) & (plays["title"] == title))[0]
        completion = plays["completion"][row]
        return 3 if completion >= 0.9 else 2 if completion >= 0.5 else 1

    def _counts(self) -> dict[str, np.ndarray]:
        catalogue, service = self.world.catalogue, self.service
        newest = self.number - 2

        def plays(days: int) -> np.ndarray:
            return sum(np.bincount(service.days[d].plays["title"], minlength=len(catalogue)) for d in range(max(0, newest - days + 1), newest + 1))

        def shown(days: int) -> np.ndarray:
            slates = [service.days[d].slates.title for d in range(max(0, newest - days + 1), newest + 1)]
            return sum(np.bincount(title[title != EMPTY], minlength=len(catalogue)) for title in slates)

        unknown = np.full(len(catalogue), np.nan)
        columns = dict.fromkeys(TITLE_FEATURES, unknown) | {
            "plays_1d": plays(1), "plays_7d": plays(7), "plays_30d": plays(30), "impressions_7d": shown(7), "impressions_30d": shown(30)}
        columns["play_rate_30d"] = plays(30) / np.maximum(shown(30), 1)
        columns |= {"year": catalogue.year, "runtime_minutes": catalogue.runtime_minutes, "maturity": self.strictest,
                    "age_days": self.number - catalogue.launch_day}
        return {name: np.asarray(values, np.float64) for name, values in columns.items()}


def draw_gains(rng: np.random.Generator, play_K: np.ndarray, attention: float) -> np.ndarray:
    """(K,) gains 0..3 where every place is looked at alike: played with `play_K` times attention, finished as the world does."""
    liking_K = (np.log(play_K / (1.0 - play_K)) + 5.4) / 1.25
    finished_K = rng.random(len(play_K)) < behaviour._sigmoid(1.3 * liking_K - 3.4)
    half_K = rng.beta(1.1, 2.2, len(play_K)) * 0.9 >= 0.5
    return np.where(rng.random(len(play_K)) < play_K * attention, np.where(finished_K, 3, np.where(half_K, 2, 1)), 0)


class Judged:
    """Whole pools of another day, judged by the true probability of a play: no label is drawn."""

    def __init__(self, requests: Requests, most: int):
        pools = [requests.pool(session) for session in requests.sample(most)]
        self.features_NR = np.concatenate([pool.features() for pool, _, _ in pools])
        self.retrieval_N = np.concatenate([pool.candidates.retrieval_score for pool, _, _ in pools])
        self.plays_N = np.concatenate([pool.candidates.columns["plays_30d"] for pool, _, _ in pools])
        self.titles = [pool.rows_K for pool, _, _ in pools]
        self.true = [play_K for _, _, play_K in pools]

    def ndcg(self, scores_N: np.ndarray, at: int = 10) -> float:
        """NDCG@at whose gain is the probability of a play."""
        discount = 1.0 / np.log2(np.arange(2, at + 2))
        found = [(true_K[best] @ discount) / (np.sort(true_K)[::-1][:at] @ discount)
                 for best, true_K in zip(self._best(scores_N, at), self.true)]
        return round(float(np.mean(found)), 4)

    def coverage(self, scores_N: np.ndarray, at: int = 20) -> float:
        """The share of all titles in the pools that stand among the first `at` of any."""
        shown = [titles_K[best] for best, titles_K in zip(self._best(scores_N, at), self.titles)]
        return round(len(np.unique(np.concatenate(shown))) / len(np.unique(np.concatenate(self.titles))), 4)

    def _best(self, scores_N: np.ndarray, at: int) -> Iterator[np.ndarray]:
        for scores_K in np.split(scores_N, np.cumsum([len(true_K) for true_K in self.true])[:-1]):
            yield np.argsort(-scores_K, kind="stable")[:at]

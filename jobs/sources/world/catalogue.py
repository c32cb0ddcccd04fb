"""The simulated catalogue: titles with their hidden topics and readable text, and licence windows per market.

Shape suffixes: T titles, K topics, W licence windows, M markets. Everything is drawn once, for history and horizon;
a title is in the service from its launch day on.
"""

from dataclasses import dataclass

import numpy as np

from jobs.sources.world.randomness import pick_by_weight, stream
from jobs.sources.world.recipes import WorldRecipe
from jobs.sources.world.words import FIRST_NAMES, LANGUAGES, LAST_NAMES, MARKETS, MOTIFS, NUMERALS, TOPICS, Topic

K = len(TOPICS)
UNKNOWN = -1
FOREVER = 1 << 30  # a day that never comes
TITLES_PER_STRAND = 8


@dataclass
class Catalogue:
    """Arrays over titles (T,) and licence windows (W,). Days count from the recipe's first day."""

    ids: np.ndarray  # str objects
    names: np.ndarray
    synopses: np.ndarray
    genres: list[list[str]]
    credits: list[list[str]]
    language: np.ndarray  # index into LANGUAGES
    year: np.ndarray
    runtime_minutes: np.ndarray
    maturity: np.ndarray  # UNKNOWN where the source does not say: never shown
    is_series: np.ndarray
    series: np.ndarray  # number of the series, UNKNOWN for a film
    next_in_series: np.ndarray  # (T,) index of the next episode, UNKNOWN for the last and for films
    launch_day: np.ndarray  # 0 or before: there from the start
    topic_TK: np.ndarray  # float32, rows of L2 norm 1: hidden
    strand: np.ndarray  # hidden finest group
    quality: np.ndarray  # hidden, standard normal
    later_maturity: np.ndarray  # maturity of a second version, UNKNOWN: there is no second version
    second_version_day: np.ndarray
    windows: "Windows"

    def __len__(self) -> int:
        return len(self.ids)

    def strictest_maturity(self) -> np.ndarray:
        """(T,) the higher of both versions' maturity; 99 where unknown."""
        known = np.maximum(self.maturity, self.later_maturity)
        return np.where(self.maturity == UNKNOWN, 99, known)

    def strand_members(self) -> tuple[np.ndarray, np.ndarray]:
        """Titles ordered by strand, and (S+1,) offsets: members of strand s are order[offsets[s]:offsets[s+1]]."""
        order = np.argsort(self.strand, kind="stable")
        return order, np.searchsorted(self.strand[order], np.arange(self.strand.max() + 2))


@dataclass
class Windows:
    """Licence windows (W,): market `market` may show `title` on days [opens, closes). A revised window is shorter
    than it was first said to be, from `revised_on` known."""

    title: np.ndarray
    market: np.ndarray
    opens: np.ndarray
    closes: np.ndarray  # in truth; FOREVER: open-ended
    first_said: np.ndarray  # closes as first landed
    revised_on: np.ndarray  # FOREVER: never
    known_on: np.ndarray  # day on which the window becomes known

    def licensed(self, day: int, titles: int, markets: int) -> np.ndarray:
        """(M,T) bool: may be shown in that market all that day."""
        open_now = (self.opens <= day) & (day < self.closes)
        out = np.zeros((markets, titles), bool)
        out[self.market[open_now], self.title[open_now]] = True
        return out


def make(recipe: WorldRecipe, seed: int) -> Catalogue:
    """The catalogue of (recipe, seed)."""
    rng = stream(seed, "catalogue")
    launch_day = _launch_days(recipe)
    count = len(launch_day)
    topic, topic_TK, strand = _topics(rng, count)
    series, episode, next_in_series = _series(rng, strand, launch_day)
    is_series = series != UNKNOWN
    _share_within_series(series, topic, topic_TK, strand)
    names, synopses, genres, credits = _texts(seed, topic, topic_TK, strand, series, episode)
    maturity, later_maturity, second_version_day = _maturity(rng, topic, series, launch_day, recipe)
    return Catalogue(
        ids=np.array([f"t{i:06d}" for i in range(count)], object),
        names=names, synopses=synopses, genres=genres, credits=credits,
        language=_languages(rng, series, recipe),
        year=np.where(launch_day > 0, 2026, 2026 - np.minimum(rng.geometric(0.09, count) - 1, 70)).astype(np.int32),
        runtime_minutes=np.round(np.where(is_series, rng.normal(46, 6, count), rng.normal(102, 16, count)).clip(20, 200)),
        maturity=maturity, is_series=is_series, series=series, next_in_series=next_in_series, launch_day=launch_day,
        topic_TK=topic_TK, strand=strand, quality=rng.normal(0, 1, count),
        later_maturity=later_maturity, second_version_day=second_version_day,
        windows=_windows(stream(seed, "licences"), recipe, launch_day),
    )


def _launch_days(recipe: WorldRecipe) -> np.ndarray:
    batch = max(1, round(recipe.titles * recipe.launch_share))
    days = np.arange(1, recipe.history_days + recipe.horizon_days)
    # the judged day, the first one after the history, has new titles
    batches = days[(days - recipe.history_days) % recipe.launch_every_days == 0]
    within = int((batches < recipe.history_days).sum()) * batch
    return np.concatenate([np.zeros(max(recipe.titles - within, 1), int), np.repeat(batches, batch)])


def _topics(rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    weights = np.array([1.6 if topic.for_kids else 1.0 for topic in TOPICS]) * rng.uniform(0.7, 1.3, K)
    topic = pick_by_weight(rng, weights, count)
    strands_per_topic = max(2, round(count / K / TITLES_PER_STRAND))
    strand = topic * strands_per_topic + rng.integers(0, strands_per_topic, count)
    # a strand leans towards a second topic of the same audience, a title adds a little of its own
    second_of_strand = rng.integers(0, K, K * strands_per_topic)
    kids = np.array([t.for_kids for t in TOPICS])
    rows = np.abs(rng.normal(0, 0.06, (count, K)))
    rows[np.arange(count), topic] += 1.0
    second = second_of_strand[strand]
    rows[np.arange(count), second] += np.where(kids[second] == kids[topic], rng.uniform(0.2, 0.6, count), 0)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return topic, rows.astype(np.float32), strand


def _series(rng: np.random.Generator, strand: np.ndarray, launch_day: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """About a third of the titles are episodes; neighbours in launch order of one strand make a series of 3 to 6."""
    count = len(strand)
    series, episode = np.full(count, UNKNOWN), np.zeros(count, int)
    following = np.full(count, UNKNOWN)
    number = 0
    order = np.lexsort((np.arange(count), launch_day, strand))
    start = 0
    while start < count:
        length = int(rng.integers(3, 7))
        members = order[start : start + length]
        members = members[strand[members] == strand[members[0]]]
        if len(members) >= 2 and rng.random() < 0.2:
            series[members], episode[members] = number, np.arange(1, len(members) + 1)
            following[members[:-1]] = members[1:]
            number += 1
            start += len(members)
        else:
            start += max(1, len(members) // 2)
    return series, episode, following


def _share_within_series(series: np.ndarray, topic: np.ndarray, topic_TK: np.ndarray, strand: np.ndarray) -> None:
    """Episodes of one series have one hidden topic vector: the first one's."""
    episodes = np.flatnonzero(series != UNKNOWN)
    if not len(episodes):
        return
    _, first, inverse = np.unique(series[episodes], return_index=True, return_inverse=True)
    leader = episodes[first][inverse]
    topic[episodes], topic_TK[episodes], strand[episodes] = topic[leader], topic_TK[leader], strand[leader]


def _maturity(rng: np.random.Generator, topic: np.ndarray, series: np.ndarray, launch_day: np.ndarray, recipe: WorldRecipe) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    count = len(topic)
    choice = rng.integers(0, 3, count)
    choice = np.where(series != UNKNOWN, series % 3, choice)
    maturity = np.array([TOPICS[t].lowest_ages[c] for t, c in zip(topic, choice)], np.int32)
    maturity[rng.random(count) < 0.008] = UNKNOWN
    later, day = np.full(count, UNKNOWN, np.int32), np.full(count, FOREVER)
    revised = (rng.random(count) < 0.01) & (maturity != UNKNOWN) & (launch_day <= 0)
    later[revised] = np.minimum(maturity[revised] + 2, 18)
    day[revised] = rng.integers(1, recipe.history_days + 2, int(revised.sum()))
    return maturity, later, day


def _languages(rng: np.random.Generator, series: np.ndarray, recipe: WorldRecipe) -> np.ndarray:
    weights = np.full(len(LANGUAGES), 0.05)
    for market in MARKETS[: recipe.markets]:
        weights[LANGUAGES.index(market.language)] += market.size
    weights[0] += 2.0
    language = pick_by_weight(rng, weights, len(series))
    first_of_series = np.zeros(series.max() + 2, int)
    first_of_series[series[::-1]] = language[::-1]
    return np.where(series != UNKNOWN, first_of_series[series], language)


def _windows(rng: np.random.Generator, recipe: WorldRecipe, launch_day: np.ndarray) -> Windows:
    """About 85 % of titles are licensed in a market; some windows close during the simulation, half of those reopen
    after some days, and a few turn out shorter than first said."""
    count, last = len(launch_day), recipe.history_days + recipe.horizon_days
    title, market = np.nonzero((rng.random((count, recipe.markets)) < 0.85) & (rng.random(count) > 0.008)[:, None])
    size = len(title)
    opens = np.where(launch_day[title] > 0, launch_day[title], -rng.integers(1, 700, size))
    delayed = (rng.random(size) < 0.05) & (launch_day[title] == 0)
    opens[delayed] = rng.integers(1, last, int(delayed.sum()))
    closing = rng.random(size) < 0.15
    closes = np.where(closing, np.maximum(opens + 3, rng.integers(2, last, size)), FOREVER)
    revised = closing & (rng.random(size) < 0.1) & (closes > np.maximum(opens, 0) + 4)
    first_said = np.where(revised, closes + 5, closes)
    reopening = closing & (rng.random(size) < 0.5)
    again = closes[reopening] + rng.integers(2, 8, int(reopening.sum()))
    known_on = np.where(opens > 2, np.maximum(opens - 2, 0), 0)

    def joined(first: np.ndarray, second: np.ndarray) -> np.ndarray:
        return np.concatenate([first, second])

    # what launches late is known a day before it opens; a reopening two days before
    return Windows(
        joined(title, title[reopening]), joined(market, market[reopening]), joined(opens, again),
        joined(closes, np.full(len(again), FOREVER)), joined(first_said, np.full(len(again), FOREVER)),
        joined(np.where(revised, closes - 2, FOREVER), np.full(len(again), FOREVER)),
        joined(known_on, np.maximum(again - 2, 0)),
    )


def _texts(seed: int, topic: np.ndarray, topic_TK: np.ndarray, strand: np.ndarray, series: np.ndarray, episode: np.ndarray) -> tuple[np.ndarray, np.ndarray, list[list[str]], list[list[str]]]:
    """Names that are unique, synopses of two or three sentences, genres and credits."""
    rng = stream(seed, "texts")
    count = len(topic)
    draws = rng.random((count, 10))
    second = np.argsort(topic_TK, axis=1)[:, -2]
    strong = topic_TK[np.arange(count), second] > 0.18
    names, synopses, genres, credits = [], [], [], []
    taken: dict[str, int] = {}
    series_name: dict[int, str] = {}
    for i in range(count):
        words, draw = TOPICS[topic[i]], draws[i]
        if series[i] == UNKNOWN:
            names.append(_unique(_name(words, draw), taken))
        else:
            base = series_name.setdefault(int(series[i]), "") or _unique(_name(words, draw), taken)
            series_name[int(series[i])] = base
            names.append(f"{base}: Episode {episode[i]}")
        other = TOPICS[second[i]] if strong[i] else words
        motif = MOTIFS[strand[i] * 7 % len(MOTIFS)]
        synopses.append(_synopsis(words, other, motif, draw))
        genres.append(list(dict.fromkeys((*words.genres, *(other.genres[:1] if strong[i] else ())))))
        credits.append(_credits(int(strand[i]), int(topic[i]), draw))
    return np.array(names, object), np.array(synopses, object), genres, credits


def _of(options: tuple[str, ...], draw: float) -> str:
    return options[int(draw * len(options))]


def _name(words: Topic, draw: np.ndarray) -> str:
    adjective, noun, place = _of(words.adjectives, draw[0]), _of(words.nouns, draw[1]), _of(words.places, draw[2])
    place = " ".join(w if w in ("the", "a", "an", "of", "in") else w[0].upper() + w[1:] for w in place.split())
    shapes = (f"The {adjective} {noun}", f"{adjective} {noun}", f"{noun} of {place}", f"The {adjective} {noun} of {place}")
    return shapes[int(draw[3] * len(shapes))]


def _unique(name: str, taken: dict[str, int]) -> str:
    taken[name] = number = taken.get(name, 0) + 1
    return f"{name}{NUMERALS[number - 1]}" if number <= len(NUMERALS) else f"{name} {number}"


def _synopsis(words: Topic, other: Topic, motif: str, draw: np.ndarray) -> str:
    role, guest = _of(words.roles, draw[4]), _of(other.roles, draw[7])
    guest = "a stranger" if guest == role else guest
    mood = _of(words.adjectives, draw[8]).lower()
    themes = dict.fromkeys(_of(words.nouns, d).lower() for d in (draw[9], draw[0]))
    return (
        f"Somewhere near {_of(words.places, draw[5])}, {role} {_of(words.quests, draw[6])}. "
        f"Then {guest} arrives, and everything turns on {motif}. "
        f"{'An' if mood[0] in 'aeiou' else 'A'} {mood} story of {' and '.join(themes)}."
    )


def _credits(strand: int, topic: int, draw: np.ndarray) -> list[str]:
    """The strand's director, then two actors of the topic's pool of eight."""
    def person(number: int) -> str:
        return f"{FIRST_NAMES[number % len(FIRST_NAMES)]} {LAST_NAMES[number * 7 // 5 % len(LAST_NAMES)]}"

    cast = [person(1000 + topic * 8 + int(draw[n] * 8)) for n in (7, 8)]
    return list(dict.fromkeys([person(strand * 3 + 1), *cast]))

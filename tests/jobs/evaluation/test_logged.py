"""Labels that no ranking chose, against a world whose relevance is known."""

from datetime import UTC, datetime
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest

from jobs.bootstrap import effective_size
from jobs.evaluation import gates as gate
from jobs.evaluation import logged, metrics
from jobs.evaluation.case import Corrected
from jobs.evaluation.config import JudgeConfig
from jobs.evaluation.figures import CANDIDATE, CORRECTED, LIVE, PLAYED, CatalogueFacts, Comparison, Lists
from jobs.evaluation.requests import Judged
from jobs.evaluation.rules import quality

TITLES, PLACES, EPSILON = 60, 10, 0.2
NAMES = [f"t{i:02d}" for i in range(TITLES)]
ATTENTION = 1.0 / np.arange(1, PLACES + 1)
RELEVANCE = np.linspace(0.6, 0.02, TITLES)  # t00 is what everybody likes best
CONFIG = JudgeConfig(min_slice_requests=20, bootstrap_samples=300)


def night(shown_first: np.ndarray, profiles: int, seed: int, release: str = "live") -> pa.Table:
    """One slate a profile: `shown_first` on its places, each slot explored with probability EPSILON; members look by place
    and engage by relevance."""
    rng = np.random.default_rng(seed)
    ranked, others = shown_first[:PLACES], np.setdiff1d(np.arange(TITLES), shown_first[:PLACES])
    rows = []
    for p in range(profiles):
        explored = rng.random(PLACES) < EPSILON
        titles = np.where(explored, rng.permutation(others)[:PLACES], ranked)
        engaged = (rng.random(PLACES) < ATTENTION) & (rng.random(PLACES) < RELEVANCE[titles])
        rows += [{"slate_id": f"s{p}", "profile_id": f"p{p}", "title_id": NAMES[t], "position": k + 1,
                  "propensity": EPSILON / len(others) if explored[k] else 1 - EPSILON, "explored": bool(explored[k]),
                  "release_id": release, "engagement": 3 if engaged[k] else 0} for k, t in enumerate(titles)]
    return pa.Table.from_pylist(rows)


def judged(slates: logged.LoggedSlates, profiles: int, corrected: bool) -> list[Judged]:
    moment = datetime(2026, 3, 31, 12, tzinfo=UTC)
    found = []
    for p in range(profiles):
        labels = slates.labels(f"p{p}", 1.0)
        if labels:
            relevant = labels if corrected else dict.fromkeys(labels, 2)
            found.append(Judged(f"r{p}", f"p{p}", moment, "de", False, 18, "tv", "home", relevant, frozenset(), ()))
    return found


def compare(candidate: np.ndarray, live: np.ndarray, slates: logged.LoggedSlates, profiles: int, corrected: bool) -> Comparison:
    requests = judged(slates, profiles, corrected)
    systems = {name: [Lists([NAMES[t] for t in order[:PLACES]], [NAMES[t] for t in order])] * len(requests)
               for name, order in ((CANDIDATE, candidate), (LIVE, live))}
    return Comparison(requests, systems, CatalogueFacts(TITLES, {}, {}, frozenset()), CONFIG, CORRECTED if corrected else PLAYED)


@pytest.fixture(scope="module")
def shuffled() -> np.ndarray:
    return np.random.default_rng(5).permutation(TITLES)


def labels_of(table: pa.Table) -> logged.LoggedSlates:
    explored = table.filter(table["explored"])
    return logged.from_impressions(table, logged.attention_of(explored), CONFIG)


def test_plays_favour_whoever_ranked_and_corrected_labels_do_not(shuffled):
    """Live ranks at random, the candidate by true relevance: plays say the opposite of what is true."""
    best = np.arange(TITLES)
    slates = labels_of(night(shuffled, 20_000, 1))
    on_plays = compare(best, shuffled, slates, 20_000, corrected=False).difference("ndcg_at_10", LIVE)
    assert on_plays.high < 0, "the test's own premise: exposure hides the better ranking"
    fair = compare(best, shuffled, slates, 20_000, corrected=True)
    assert fair.difference("snips_dcg", LIVE).low > 0
    assert fair.difference("snips_dcg", LIVE).ours == pytest.approx(true_value(best), rel=0.06)
    assert fair.difference("snips_dcg", LIVE).theirs == pytest.approx(true_value(shuffled), rel=0.06)


def true_value(order: np.ndarray) -> float:
    """What SNIPS DCG estimates, from the relevance that only the test knows."""
    discount = 1 / np.log2(2 + np.arange(TITLES))
    return float((RELEVANCE[order] * discount).sum() / RELEVANCE.sum())


def test_a_worse_candidate_is_seen_to_be_worse(shuffled):
    best = np.arange(TITLES)
    fair = compare(best[::-1], best, labels_of(night(best, 5_000, 2)), 5_000, corrected=True)
    assert fair.difference("snips_dcg", LIVE).high < 0
    assert fair.slice_losses(LIVE, 0.01)["device tv"].p < 0.001


def test_equals_are_not_told_apart_whoever_ranked(shuffled):
    """Two orders of the same true value, one of them shown: over worlds, neither is favoured."""
    one, other = np.arange(TITLES), np.arange(TITLES)
    swapped = other.reshape(-1, 2)[:, ::-1].ravel()  # neighbours change places: nearly the same value
    gaps = [compare(swapped, one, labels_of(night(one, 1_500, seed)), 1_500, corrected=True).difference("snips_dcg", LIVE).difference
            for seed in range(10, 22)]
    expected = true_value(swapped) - true_value(one)
    assert abs(np.mean(gaps) - expected) < 3 * np.std(gaps, ddof=1) / np.sqrt(len(gaps))


def test_attention_is_read_from_exploration_slots(shuffled):
    table = night(shuffled, 20_000, 3)
    curve = logged.attention_of(table.filter(table["explored"]))
    assert curve[0] == 1.0
    assert (np.diff(curve) <= 0).all()
    assert curve == pytest.approx(ATTENTION, abs=0.12)
    assert (logged.attention_of(table.slice(0, 0)) == 1).all()


def test_the_share_of_each_release_is_counted_by_slates(shuffled):
    table = pa.concat_tables([night(shuffled, 30, 1), night(shuffled, 10, 2, "other").set_column(
        0, "slate_id", pa.array([f"o{i}" for i in range(10) for _ in range(PLACES)]))])
    slates = labels_of(table)
    assert slates.share_of("live") == pytest.approx(0.75)
    assert slates.share_of(None) == slates.share_of("unheard of") == 0


def test_what_says_nothing_of_its_chance_is_left_out(shuffled):
    rows = night(shuffled, 400, 4).to_pylist()
    whole = labels_of(pa.Table.from_pylist(rows))
    for row in rows[::3]:
        row["propensity"] = None
    for row in rows[1::3]:
        row["position"] = None
    kept = labels_of(pa.Table.from_pylist(rows))
    known = {(row["profile_id"], row["title_id"]) for row in rows[2::3]}
    for part in ("explored", "ranked"):
        assert {(p, t) for p, mine in getattr(kept, part).items() for t in mine} == known & {
            (p, t) for p, mine in getattr(whole, part).items() for t in mine}


def test_no_label_outweighs_the_clip(shuffled):
    rows = night(shuffled, 2_000, 6).to_pylist()
    next(row for row in rows if row["explored"] and row["engagement"])["propensity"] = 1e-9
    weights = [w for mine in labels_of(pa.Table.from_pylist(rows)).explored.values() for w in mine.values()]
    assert max(weights) <= CONFIG.clip * np.median(weights) * 1.0001


def test_what_a_list_lacks_shares_the_places_after_it():
    weights = {"a": 1.0, "z": 3.0}
    after = np.mean([1 / np.log2(1 + place) for place in (3, 4, 5)])
    assert metrics.discounted_share(["b", "a"], weights, 5) == pytest.approx((1 / np.log2(3) + 3 * after) / 4)
    assert metrics.discounted_share(["a"], {"z": 1.0}, 0) == pytest.approx(1 / np.log2(3)), "at least one place is left"
    assert metrics.discounted_share(["a"], {}, 5) == 0.0


def test_effective_size_is_the_count_of_equal_weights_and_less_of_others():
    assert effective_size(np.full(7, 3.0)) == pytest.approx(7)
    assert effective_size(np.array([100.0, 1, 1, 1])) == pytest.approx(1.06, abs=0.01)
    assert effective_size(np.zeros(0)) == 0


def case(explored: int, live_share: float, requests: int = 500) -> SimpleNamespace:
    """A candidate that plays say is worse than live, and corrected labels that it is better."""
    best, worst = np.arange(TITLES), np.arange(TITLES)[::-1]
    slates = labels_of(night(worst, 4_000, 7))
    plays = compare(best, worst, slates, 4_000, corrected=False)
    fair = compare(best, worst, slates, 4_000, corrected=True)
    live = SimpleNamespace(comparable=True, note="")
    return SimpleNamespace(config=CONFIG, live=live, judged=[None] * requests, comparison=plays,
                           corrected=Corrected(fair, explored, float(explored), live_share))


def verdicts(of: SimpleNamespace) -> dict[str, tuple[str, str]]:
    both = [gate.not_worse("not_worse_than_live", "", quality.against(of, quality.fair(of).scheme.headline, LIVE), 0.01,
                           quality.why_not_live(of)), quality._slices(of, "")]
    return {one.name: (one.verdict, one.reason) for one in both}


def test_the_gates_look_at_corrected_labels_where_live_ranked_the_slates():
    assert {v for v, _ in verdicts(case(100, 0.4)).values()} == {"passed"}
    assert verdicts(case(100, 0.0))["not_worse_than_live"][0] == "failed", "nobody compared ranked them: plays are fair"


def test_too_few_explored_engagements_decide_nothing_and_say_so():
    for verdict, reason in verdicts(case(CONFIG.min_explored - 1, 0.4)).values():
        assert verdict == "not_applicable"
        assert "29 engagements in exploration slots are too few" in reason

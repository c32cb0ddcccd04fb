"""`python -m bench.position`: what the attention curve is worth, where the truth is known, and on a real click log.

Every row goes to results.jsonl; `--table` writes the README's tables from it.
"""

import argparse
import json
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from bench.position import simulated, table, yandex
from contracts.query import DEVICES
from jobs.attention import Attention, estimate
from jobs.ranker.choose import VARIANTS, train_lambdamart
from jobs.ranker.config import RankerConfig
from jobs.ranker.rows import TrainingRows, training_rows
from jobs.sources.world import truth
from jobs.sources.world.recipes import demo

DAYS, ROUNDS, POOL, JUDGED = 31, 100, 200, 700
DRAWS = 4  # labels of the oracle a request, so that their noise does not hide what bias costs
RESULTS = Path(__file__).with_name("results.jsonl")


def main() -> None:
    args = _arguments()
    if args.table:
        return table.write(RESULTS)
    rows = [{"what": "yandex", **row} for row in yandex.measure(args.yandex)] if args.yandex else []
    for row in rows:
        _keep(row)
    for seed in args.seeds if not args.yandex else ():
        for flat in (False, True):
            _keep(world(seed, flat, args.sessions, args.requests))


def world(seed: int, flat: bool, sessions: int, requests: int) -> dict:
    """The curve against the truth, and rankers by NDCG@10 of the true relevance, of one simulated service; without requests
    the curve alone."""
    recipe = replace(demo(), sessions_per_day=sessions, profiles=round(20_000 * sessions / 3300))
    with simulated.attention_of(flat):
        service = simulated.Service.simulate(recipe, seed, DAYS)
        with tempfile.TemporaryDirectory() as home:
            truth.write(Path(home), service.world)
            true = dict(np.load(Path(home) / truth.FOLDER / "attention.npz"))
    log = service.impressions(range(DAYS - 2))
    names = ("position", "engaged", "explored", "title", "device")
    found = estimate(*(log[name] for name in names))
    em = estimate(log["position"], log["engaged"], None, log["title"])
    share = {name: float((log["device"] == name).mean()) for name in DEVICES}
    true_S = sum(share[name] * true[name] / true[name][0] for name in DEVICES)
    logged_S = service.logged_attention(range(DAYS - 2))
    return {
        "what": "world" if requests else "curve", "seed": seed, "flat": flat, "sessions": sessions, "requests": requests,
        "plays": int(found.plays.sum()), "form": found.form, "error": _error(found.curve, true_S),
        "error_logged": _error(found.curve, logged_S), "error_em": _error(em.curve, true_S), "error_em_logged": _error(em.curve, logged_S),
        "error_devices": {name: _error(found.at(np.arange(1, 21), name), true[name] / true[name][0]) for name in found.by_device},
        "curve": np.round(found.curve[:10], 3).tolist(), "truth": np.round(true_S[:10], 3).tolist(), "logged": np.round(logged_S[:10], 3).tolist(),
        **(_rankers(service, seed, found, requests) if requests else {}),
    }


def _error(curve_S: np.ndarray, true_S: np.ndarray) -> float:
    """The largest relative error at places 1 to 10."""
    return round(float(np.abs(curve_S[:10] / true_S[:10] - 1).max()), 4)


def _rankers(service: simulated.Service, seed: int, attention: Attention, requests: int) -> dict[str, dict[str, float]]:
    """NDCG@10 by true relevance and coverage@20: each variant on logged plays, and on the same slates the oracle, and an
    oracle that sees no more plays than were logged; popularity orders each pool by its plays of thirty days."""
    config = RankerConfig(pool_size=POOL)
    night = simulated.Requests(service, DAYS - 2, seed, config)
    pairs = [night.pool(session) for session in night.sample(requests)]
    logged = [training_rows(pool, slate, attention, config) for pool, slate, _ in pairs]
    rng = np.random.default_rng(seed)
    oracle = [_unbiased(rng, *pair, config) for _ in range(DRAWS) for pair in pairs]
    share = DRAWS * _plays(logged) / _plays(oracle)
    thinned = [_unbiased(rng, *pair, config, share) for pair in pairs]
    judged = simulated.Judged(simulated.Requests(service, DAYS - 1, seed, config), JUDGED)
    scores = {"popularity": judged.plays_N, "retrieval": judged.retrieval_N,
              "oracle": _trained(VARIANTS["slate"], oracle, config, judged), "oracle-thinned": _trained(VARIANTS["slate"], thinned, config, judged)}
    scores |= {name: _trained(variant, logged, config, judged) for name, variant in VARIANTS.items()}
    return {"ndcg": {name: judged.ndcg(scores_N) for name, scores_N in scores.items()},
            "coverage": {name: judged.coverage(scores_N) for name, scores_N in scores.items()}}


def _plays(rows: list[TrainingRows]) -> int:
    return sum(int(((r.gain_S > 0) & (r.place_S > 0)).sum()) for r in rows)


def _unbiased(rng: np.random.Generator, pool, slate, play_K: np.ndarray, config: RankerConfig, looked: float = 1.0) -> TrainingRows:
    """The rows of a slate with labels drawn from true relevance, as if every place were looked at with the same chance."""
    gain_K = np.where(_shown(pool, slate), simulated.draw_gains(rng, play_K, looked), 0)
    relevant = {title: int(gain) for title, gain in zip(pool.candidates.title_ids, gain_K) if gain}
    return training_rows(replace(pool, request=replace(pool.request, relevant=relevant)), slate, Attention("none"), replace(config, negatives=0))


def _shown(pool, slate) -> np.ndarray:
    return np.array([title in slate.row_of for title in pool.candidates.title_ids])


def _trained(variant, rows: list[TrainingRows], config: RankerConfig, judged: "simulated.Judged") -> np.ndarray:
    return train_lambdamart(variant.lists(rows), ROUNDS, config, 1, variant).predict(judged.features_NR, num_threads=1)


def _keep(row: dict) -> None:
    print(json.dumps(row), flush=True)
    with RESULTS.open("a") as file:
        file.write(json.dumps(row) + "\n")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.position", description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], help="worlds to simulate")
    parser.add_argument("--sessions", type=int, default=3300, help="sessions a day of the world")
    parser.add_argument("--requests", type=int, default=3000, help="sessions whose slates the ranker learns from; 0: the curve alone")
    parser.add_argument("--yandex", type=Path, help="folder with trainSample and testSample: measure that instead")
    parser.add_argument("--table", action="store_true", help="only write the README's tables")
    return parser.parse_args()


if __name__ == "__main__":
    main()

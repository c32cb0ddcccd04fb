"""One peer on one data set, inside the peers' environment: `python -m bench.peers.one NAME …` writes its part of the result.

Validation chooses one setting of the peer's grid; the test part is looked at once, with that setting.
"""

import argparse
import json
import sys
from collections.abc import Iterable

import numpy as np

from bench.peers.models import PEERS, SASREC, Answers, Candidate, Peer
from bench.retrieval import arguments, baselines
from bench.retrieval import data as dataset
from bench.retrieval.data import Dataset
from bench.retrieval.evaluate import CHOSEN_BY, Phases, Scores, figures, quality
from bench.retrieval.requests import Requests, both_parts, by_gap, counts

PROGRAM = "bench.peers"
PATIENCE = 5
"""Candidates in a row that are no better, before a training that yields one an epoch stops."""


def main() -> None:
    options = parser().parse_args()
    arguments.carry_out(options, PROGRAM, run, lambda _: "")


def parser() -> argparse.ArgumentParser:
    made = arguments.parser("python -m bench.peers.one", __doc__)
    made.add_argument("name")
    made.add_argument("--epochs", type=int, default=100)
    return made


def run(options: argparse.Namespace) -> dict:
    clock = Phases()
    data = dataset.load(options.interactions, None, None, options.protocol)
    valid, test = both_parts(data, options.fit, options.interactions)
    peer = _peer(options)
    why_not = peer.why_not(data)
    if why_not:
        return {"not_run": why_not}
    clock.done("read")
    best, by_setting = _choose(data, valid, peer.candidates(data, valid.learns, options.seed), options.name == SASREC)
    clock.done("choose")
    valid_figures = figures(valid, _known(data, valid, best.answers), options.k, options.seed, by_gap(data, valid))
    clock.done("validate")
    chosen = best
    if options.fit == "train+valid":
        best = peer.again(data, test.learns, options.seed, chosen.setting)
        clock.done("train on validation rows too")
    test_figures = figures(test, _known(data, test, best.answers), options.k, options.seed, by_gap(data, test))
    clock.done("test")
    report = clock.report()
    report["cpu_seconds"]["train"] = round(best.cpu_seconds, 1)  # of the chosen setting alone
    return {"test": test_figures, "valid": valid_figures, "setting": chosen.setting, f"valid {CHOSEN_BY} by setting": by_setting,
            "data": {**data.shape(), "requests": counts(valid, test)}, **report}


def _peer(options: argparse.Namespace) -> Peer:
    if options.name != SASREC:
        return PEERS[options.name]
    from bench.peers.sasrec import SASRec

    return SASRec(options.epochs)


def _choose(data: Dataset, valid: Requests, candidates: Iterable[Candidate], stops_early: bool) -> tuple[Candidate, dict[str, float]]:
    """The candidate with the best validation figure; the earlier of equals."""
    best, best_figure, worse, found = None, -1.0, 0, {}
    for candidate in candidates:
        figure = round(quality(valid, _known(data, valid, candidate.answers)), 5)
        found[json.dumps(candidate.setting)] = figure
        print(f"{json.dumps(candidate.setting)}: {figure} after {candidate.cpu_seconds:.0f} s of CPU", file=sys.stderr)
        best, best_figure, worse = (candidate, figure, 0) if figure > best_figure else (best, best_figure, worse + 1)
        if stops_early and worse >= PATIENCE:
            break
    return best, found


def _known(data: Dataset, requests: Requests, answers: Answers) -> Scores:
    """A peer that scores all titles alike knows nothing of who asks: popularity answers."""
    by_peer, by_popularity = answers(requests), baselines.popularity(data, requests)

    def scores(rows: np.ndarray) -> np.ndarray:
        out_QT = np.asarray(by_peer(rows), np.float32)
        unknown = np.flatnonzero(np.ptp(out_QT, axis=1) == 0)
        if len(unknown):
            out_QT[unknown] = by_popularity(rows[unknown])
        return out_QT

    return scores


if __name__ == "__main__":
    main()

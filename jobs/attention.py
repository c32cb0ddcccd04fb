"""How likely each place of a slate is looked at, relative to place 1, from logged impressions.

A play needs that the place was looked at and that the title appeals (position-based click model; Richardson et al., 2007;
Chuklin et al., 2015, ch. 3.3). Exploration slots show titles drawn without regard to place, so that their play rate by
place is attention times a constant. Where too few were logged, titles shown at several places tell attention from appeal
by EM (Wang et al., WSDM 2018). That assumes that a title appeals equally at every place: a policy that shows it higher to
those who like it makes the curve too steep.

Counts suffice: a row may stand for many impressions, so that 50 million are aggregated before they come here.
Shape suffixes: N rows, C cells (place of one title, or place of one device), S places, D devices, B bootstrap samples.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from scipy.optimize import isotonic_regression, minimize

MOST_PLACES = 100
"""Places beyond are left out; `at` gives them the last value."""

LEAST_PLAYS = 100
"""Plays on exploration slots, or on titles shown at several places, that a curve takes: with 100 plays the average height
of a curve is known to 10 %."""

LEAST_DEVICE_PLAYS = 400
FOLDS, SAMPLES = 5, 100
EM_STEPS, EM_TOLERANCE = 500, 1e-4


@dataclass(frozen=True)
class Attention:
    """Attention by place. `bounds` hold each place with 95 % (bootstrap of the counts, or of the titles for EM);
    `shown` and `plays` are what the curve was estimated from, at each place."""

    kind: Literal["exploration", "em", "none"]
    curve: np.ndarray = field(default_factory=lambda: np.ones(1))  # (S,) place 1..S relative to place 1, non-increasing
    bounds: np.ndarray = field(default_factory=lambda: np.ones((2, 1)))  # (2,S) lower, upper
    shown: np.ndarray = field(default_factory=lambda: np.zeros(1, np.int64))  # (S,)
    plays: np.ndarray = field(default_factory=lambda: np.zeros(1, np.int64))  # (S,)
    form: str = "flat"  # of the curve, picked by held-out likelihood
    by_device: Mapping[str, np.ndarray] = field(default_factory=dict)  # (S,) each, where a device's own curve fits better

    def at(self, position, device: str | None = None) -> np.ndarray:
        """Attention at places from 1, of any shape; beyond S the last value, missing (NaN) 1."""
        position = np.asarray(position, np.float64)
        curve_S = self.by_device.get(device, self.curve)
        place = np.clip(np.nan_to_num(position, nan=1.0), 1, len(curve_S)).astype(np.int64) - 1
        return np.where(np.isnan(position), 1.0, curve_S[place])

    def in_words(self) -> str:
        """One sentence for a person."""
        if self.kind == "none":
            return "none: too few plays on exploration slots and on titles shown at several places; every place counts alike"
        source = "exploration slots" if self.kind == "exploration" else "titles shown at several places (EM)"
        own = f"; own curves for {', '.join(sorted(self.by_device))}" if self.by_device else ""
        return f"{self.form} curve from {self.plays.sum():,} plays on {self.shown.sum():,} impressions of {source}{own}"

    def as_json(self) -> dict[str, Any]:
        """Plain values, rounded, so that equal counts give equal bytes."""
        def listed(values: np.ndarray) -> list:
            return np.round(values, 4).tolist()

        return {"kind": self.kind, "form": self.form, "curve": listed(self.curve), "bounds": listed(self.bounds),
                "shown": self.shown.tolist(), "plays": self.plays.tolist(), "says": self.in_words(),
                "by_device": {name: listed(curve) for name, curve in sorted(self.by_device.items())}}


def estimate(position_N, engaged_N, explored_N=None, title_N=None, device_N=None, shown_N=None, seed: int = 7) -> Attention:
    """The curve from N logged rows. `engaged_N` counts plays among the row's `shown_N` impressions (None: one each);
    `explored_N` marks slots whose title was drawn uniformly; `title_N` and `device_N` are labels of any sortable kind.
    Rows with a missing place or a place below 1 are left out.
    """
    position_N = np.asarray(position_N, np.float64)
    shown_N = np.ones(len(position_N)) if shown_N is None else np.asarray(shown_N, np.float64)
    engaged_N = np.asarray(engaged_N, np.float64)
    keep_N = (position_N >= 1) & (position_N <= MOST_PLACES)  # false for NaN
    place_N = np.where(keep_N, position_N, 1).astype(np.int64) - 1
    places = int(place_N[keep_N].max(initial=0)) + 1
    if explored_N is not None:
        explored = keep_N & np.asarray(explored_N, bool)
        device = np.zeros(explored.sum(), np.int64) if device_N is None else np.asarray(device_N)[explored]
        names, shown_DS, plays_DS = _counts(device, place_N[explored], shown_N[explored], engaged_N[explored], places)
        if plays_DS.sum() >= LEAST_PLAYS:
            return _from_exploration([] if device_N is None else names, shown_DS, plays_DS, seed)
    if title_N is not None:
        return _from_titles(_Cells.of(np.asarray(title_N)[keep_N], place_N[keep_N], shown_N[keep_N], engaged_N[keep_N]), seed)
    return Attention("none")


def _counts(label_N, place_N, shown_N, plays_N, places: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, and impressions and plays (labels, places)."""
    names, code_N = np.unique(label_N, return_inverse=True)
    cell_N, shape = code_N * places + place_N, (len(names), places)
    return names, *(np.bincount(cell_N, values, len(names) * places).reshape(shape) for values in (shown_N, plays_N))


# --- exploration ----------------------------------------------------------------------------------------------------

def _from_exploration(names, shown_DS: np.ndarray, plays_DS: np.ndarray, seed: int) -> Attention:
    """One curve for all, of the form with the best held-out likelihood; a device keeps its own where that predicts its
    held-out plays better than the curve of all does."""
    random = np.random.default_rng(seed)
    folds = _folds(random, shown_DS, plays_DS)
    form = max(FORMS, key=lambda name: sum(_held_out(FORMS[name], *fold) for fold in folds))
    curve_S = FORMS[form](shown_DS, plays_DS)
    own = [d for d in range(len(names)) if plays_DS[d].sum() >= LEAST_DEVICE_PLAYS and _is_its_own(FORMS[form], folds, d)]
    by_device = {str(names[d]): FORMS[form](shown_DS[[d]], plays_DS[[d]]) for d in own}
    rate_DS = _rates(shown_DS, plays_DS, curve_S)[:, None] * curve_S
    samples_BS = [FORMS[form](shown_DS, random.poisson(shown_DS * rate_DS)) for _ in range(SAMPLES)]
    return Attention("exploration", curve_S, _bounds(samples_BS), _whole(shown_DS.sum(0)), _whole(plays_DS.sum(0)), form, by_device)


def _is_its_own(form: Callable, folds: list[tuple[np.ndarray, ...]], d: int) -> bool:
    """A device's held-out plays are likelier under its own curve than under that of all, by more than a standard error."""
    gains = []
    for fold in folds:
        mine = [counts_DS[[d]] for counts_DS in fold]
        gains.append(_held_out(form, *mine) - _likelihood(form(*fold[:2]), mine[2], mine[3], *mine[:2]))
    return np.mean(gains) > np.std(gains, ddof=1) / np.sqrt(FOLDS)


def _rates(shown_DS: np.ndarray, plays_DS: np.ndarray, curve_S: np.ndarray) -> np.ndarray:
    """(D,) the most likely play rate of each device at place 1, given the curve."""
    return plays_DS.sum(1) / np.maximum(shown_DS @ curve_S, 1e-9)


def _likelihood(curve_S, shown_DS, plays_DS, learnt_shown_DS, learnt_plays_DS) -> float:
    """Poisson log likelihood of counts (plays are rare), up to a constant, at rates learnt from other counts."""
    mean_DS = np.maximum(_rates(learnt_shown_DS, learnt_plays_DS, curve_S)[:, None] * curve_S * shown_DS, 1e-12)
    return float((plays_DS * np.log(mean_DS) - mean_DS).sum())


def _held_out(form: Callable, shown_DS, plays_DS, other_shown_DS, other_plays_DS) -> float:
    return _likelihood(form(shown_DS, plays_DS), other_shown_DS, other_plays_DS, shown_DS, plays_DS)


def _folds(random: np.random.Generator, shown_DS: np.ndarray, plays_DS: np.ndarray) -> list[tuple[np.ndarray, ...]]:
    """Impressions dealt at random into FOLDS parts: learn from (shown, plays) of the others, test on (shown, plays)."""
    share = np.full(FOLDS, 1.0 / FOLDS)
    plays = random.multinomial(_whole(plays_DS), share).transpose(2, 0, 1)
    quiet = random.multinomial(_whole(np.maximum(shown_DS - plays_DS, 0)), share).transpose(2, 0, 1)
    return [(shown_DS - p - q, plays_DS - p, p + q, p) for p, q in zip(plays, quiet)]


def _parametric(shape: Callable, start: tuple[float, ...]) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """The most likely curve `shape(place - 1, *exp(parameters))`, each device with a play rate of its own."""
    def fit(shown_DS: np.ndarray, plays_DS: np.ndarray) -> np.ndarray:
        place_S = np.arange(shown_DS.shape[1], dtype=np.float64)

        def loss(logs: np.ndarray) -> float:
            return -_likelihood(shape(place_S, *np.exp(np.clip(logs, -8, 8))), shown_DS, plays_DS, shown_DS, plays_DS)

        found = minimize(loss, np.log(start), method="Nelder-Mead", options={"xatol": 1e-4, "fatol": 1e-6})
        return shape(place_S, *np.exp(np.clip(found.x, -8, 8)))

    return fit


def _isotonic(shown_DS: np.ndarray, plays_DS: np.ndarray) -> np.ndarray:
    """The most likely non-increasing curve (Barlow et al., 1972): pooled rates where a later place did better."""
    return _non_increasing(plays_DS.sum(0), shown_DS.sum(0))


def _non_increasing(looked_S: np.ndarray, shown_S: np.ndarray) -> np.ndarray:
    """Relative to place 1; places never shown take the value before them."""
    there = np.flatnonzero(shown_S > 0)
    fitted = isotonic_regression(looked_S[there] / shown_S[there], weights=shown_S[there], increasing=False).x
    curve_S = fitted[np.clip(np.searchsorted(there, np.arange(len(shown_S)), "right") - 1, 0, None)]
    return curve_S / curve_S[0] if curve_S[0] > 0 else np.ones(len(curve_S))


FORMS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "power": _parametric(lambda place, p: (1.0 + place) ** -p, (1.0,)),
    "exponential": _parametric(lambda place, s: np.exp(-place / s), (5.0,)),
    "shifted power": _parametric(lambda place, p, s: (1.0 + place / s) ** -p, (1.0, 3.0)),
    "isotonic": _isotonic,
}
"""Curve (S,) of impressions and plays (D,S), from simple to free; the first of equals is taken."""


# --- EM -------------------------------------------------------------------------------------------------------------

@dataclass(frozen=True)
class _Cells:
    """Impressions and plays of one title at one place."""

    title_C: np.ndarray
    place_C: np.ndarray
    shown_C: np.ndarray
    plays_C: np.ndarray

    @classmethod
    def of(cls, title_N, place_N, shown_N, plays_N) -> "_Cells":
        """Of titles that were shown at several places and played at one of them: others say nothing of places."""
        _, code_N = np.unique(title_N, return_inverse=True)
        places = int(place_N.max(initial=0)) + 1
        cells, cell_N = np.unique(code_N.astype(np.int64) * places + place_N, return_inverse=True)
        shown_C, plays_C = np.bincount(cell_N, shown_N, len(cells)), np.bincount(cell_N, plays_N, len(cells))
        title_C, place_C = cells // places, cells % places
        useful = (np.bincount(title_C) > 1) & (np.bincount(title_C, plays_C) > 0) if len(cells) else np.zeros(0, bool)
        keep = useful[title_C]
        titles = np.cumsum(useful) - 1
        return cls(titles[title_C[keep]], place_C[keep], shown_C[keep], plays_C[keep])


def _from_titles(cells: _Cells, seed: int) -> Attention:
    if cells.plays_C.sum() < LEAST_PLAYS or not (cells.place_C == 0).any():
        return Attention("none")
    random = np.random.default_rng(seed)
    curve_S = fit_em(cells)
    titles = cells.title_C.max() + 1
    samples = [fit_em(cells, random.poisson(1.0, titles)[cells.title_C], EM_STEPS // 5) for _ in range(SAMPLES // 5)]
    shown_S, plays_S = (np.bincount(cells.place_C, counts, len(curve_S)) for counts in (cells.shown_C, cells.plays_C))
    return Attention("em", curve_S, _bounds(samples), _whole(shown_S), _whole(plays_S), "isotonic")


def fit_em(cells: _Cells, weight_C: np.ndarray | float = 1.0, steps: int = EM_STEPS) -> np.ndarray:
    """(S,) attention by EM of P(play) = attention of the place * appeal of the title (Wang et al., 2018, sec. 4.2, with an
    appeal a title); the M step keeps attention non-increasing."""
    places, titles = cells.place_C.max() + 1, cells.title_C.max() + 1
    shown_C, plays_C = cells.shown_C * weight_C, cells.plays_C * weight_C
    shown_S, shown_T = np.bincount(cells.place_C, shown_C, places), np.bincount(cells.title_C, shown_C, titles)
    look_S = 1.0 / np.sqrt(np.arange(1, places + 1))
    appeal_T = np.bincount(cells.title_C, plays_C, titles) / np.maximum(
        np.bincount(cells.title_C, shown_C * look_S[cells.place_C], titles), 1e-12)
    for _ in range(steps):
        look_C, appeal_C = look_S[cells.place_C], np.clip(appeal_T, 0, 0.999)[cells.title_C]
        quiet_C = (shown_C - plays_C) / (1.0 - look_C * appeal_C)
        looked_S = np.bincount(cells.place_C, plays_C + quiet_C * look_C * (1.0 - appeal_C), places)
        liked_T = np.bincount(cells.title_C, plays_C + quiet_C * appeal_C * (1.0 - look_C), titles)
        before_S, look_S = look_S, _non_increasing(looked_S, shown_S)
        appeal_T = liked_T / np.maximum(shown_T, 1e-12)
        if np.abs(look_S - before_S).max() < EM_TOLERANCE / 10:
            break
    return look_S


def _bounds(samples_BS: list[np.ndarray]) -> np.ndarray:
    return np.quantile(np.stack(samples_BS), [0.025, 0.975], axis=0)


def _whole(values: np.ndarray) -> np.ndarray:
    return np.round(values).astype(np.int64)

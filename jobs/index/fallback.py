"""The order in which a market's titles are shown when nothing else is known: popularity by market and cohort."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

KIDS, GENERAL = "kids", "general"


@dataclass(frozen=True)
class Popularity:
    """Recency-weighted plays. `market` is an index into `markets`, -1 unknown; titles are rows of the catalogue."""

    market: np.ndarray  # (E,)
    title: np.ndarray  # (E,)
    is_kids: np.ndarray  # (E,) bool
    weight: np.ndarray  # (E,)

    def score(self, market: int, kids: bool, titles: int, world_share: float) -> np.ndarray:
        """(T,): plays of the market's own cohort, a share of the cohort's plays anywhere, and a share of that share of
        everybody's (a source may know no kids profiles)."""
        cohort = self.is_kids == kids
        here, everybody = cohort & (self.market == market), np.ones(len(cohort), bool)
        own, world, all_plays = (np.bincount(self.title[who], self.weight[who], titles) for who in (here, cohort, everybody))
        return own + world_share * (world + world_share * all_plays)


def fallback_rows(
    popularity: Popularity, markets: Sequence[str], licensed: Mapping[str, np.ndarray], launched: np.ndarray,
    maturity: np.ndarray, kids_maturity: int, world_share: float,
) -> Iterator[tuple[str, str, np.ndarray, np.ndarray]]:
    """(market, cohort, titles best first, their scores), sorted by market and cohort.

    `licensed[market]` are the rows of titles that have a licence window there at any time: every one of them is in the
    general order, those without a play last, newest launch (epoch seconds) first. The kids order has the titles of a
    known maturity of at most `kids_maturity` (`maturity`: NaN unknown).
    """
    for number, market in sorted(enumerate(markets), key=lambda pair: pair[1]):
        for cohort in (GENERAL, KIDS):
            rows = np.sort(licensed[market])
            if cohort == KIDS:
                rows = rows[maturity[rows] <= kids_maturity]
            score = popularity.score(number, cohort == KIDS, len(launched), world_share)[rows]
            order = np.lexsort((rows, -launched[rows], -score))
            yield market, cohort, rows[order], score[order]

"""What the report draws of the ranker's choice and of attention by place."""

import numpy as np

from jobs.attention import Attention
from jobs.evaluation import plots

CURVE = np.array([1.0, 0.7, 0.4])
FOUND = Attention("exploration", CURVE, np.stack([CURVE * 0.9, CURVE * 1.1]), np.full(3, 900), np.array([90, 63, 36]),
                  "power", {"tv": CURVE, "mobile": CURVE**2})


def test_the_attention_curve_is_drawn_with_its_devices():
    drawn = plots.attention(FOUND.as_json())
    assert drawn.startswith("<svg")
    assert drawn == plots.attention(FOUND.as_json())
    for text in ("(exploration)", ">tv<", ">mobile<", "95 % bounds"):
        assert text in drawn


def test_nothing_is_drawn_where_nothing_was_estimated():
    assert plots.attention({}) == plots.attention(Attention("none").as_json()) == ""
    assert plots.ranker_choice({"validation": {}}) == ""


def test_the_pick_is_in_colour_though_another_is_better():
    validation = {"retrieval": 0.30, "blend 0.4 0.1": 0.299, "lambdamart pool 50": 0.301}
    colour = plots.COLOURS[plots.CANDIDATE]
    picks = [plots.ranker_choice({"validation": validation, "picked": name}) for name in validation]
    assert all(drawn.count(f"fill: {colour}") == 1 for drawn in picks)
    assert len(set(picks)) == 3
    assert plots.ranker_choice({"validation": validation}) == picks[2]  # a release from before the pick was noted

"""README's quality table is what the command writes from the results that are kept."""

import json

import pytest

from bench import table
from contracts.errors import UsageError


def test_readme_holds_what_the_command_writes():
    text = table.README.read_text()
    assert table.rows(), "no result is kept"
    assert text == table.written(text, table.rendered(table.rows())), "run `python -m bench.table`"


def result(ndcg, **more):
    test = {"hr@10": 0.3, "ndcg@10": ndcg, "hr@200": 0.7, "coverage@10": 0.5}
    said = {"recipe": "quick", "fit": "train"}
    return {"test": test, "model": {"kind": "towers"}, "configuration": said, "cpu_seconds": {"train": 60.0, "test": 5.0}, "peak_memory_mib": 1024, **more}


def test_seeds_become_one_row_with_mean_and_spread_and_the_best_stands_last(tmp_path):
    for seed, ndcg in ((1, 0.10), (2, 0.14)):
        alone = {"towers": {"test": {"hr@10": 0.1, "ndcg@10": ndcg - 0.05}}}
        (tmp_path / f"set.retrieval.{seed}.json").write_text(json.dumps(result(ndcg, beside=alone)))
    peer = {"test": {"hr@10": 0.2, "ndcg@10": 0.2}, "cpu_seconds": {"train": 30.0}, "peak_memory_mib": 512}
    (tmp_path / "set.peers.1.json").write_text(json.dumps({"peers": {"ease": peer, "als": {"not_run": "why"}}}))
    lines = table.rendered(table.rows(tmp_path)).splitlines()
    assert lines[0].startswith("| set | seeds | HR@10 | NDCG@10")
    assert lines[2].startswith("| the towers alone, recipe `quick` | 2 | .100 ± .000 | .070 ± .028 |")
    assert lines[3] == "| **Marquee: retrieval**, recipe `quick` | 2 | .300 ± .000 | .120 ± .028 | .700 ± .000 | .500 ± .000 | 1.0 | 1.0 |"
    assert lines[4] == "| ease | 1 | .200 | .200 |  |  | 0.5 | 0.5 |"
    assert len(lines) == 5


def test_the_funnel_shows_retrieval_order_and_blend_beside(tmp_path):
    beside = {name: {"test": {"hr@10": 0.1, "ndcg@10": ndcg}} for name, ndcg in (("popularity", 0.0), ("retrieval", 0.1), ("blend", 0.2), ("lambdamart", 0.3))}
    made = result(0.3, beside=beside)
    made["configuration"]["ranker"] = {}
    (tmp_path / "set.ranking.1.json").write_text(json.dumps(made))
    rows = [row.system.split(",")[0] for row in table.rows(tmp_path)]
    assert rows == ["**Marquee: the funnel**", "the funnel's retrieval order", "the funnel's blend", "the funnel's LambdaMART"]


def test_a_result_of_another_name_is_said(tmp_path):
    (tmp_path / "result.json").write_text("{}")
    with pytest.raises(UsageError, match=r"DATA\.WHAT\.SEED"):
        table.rows(tmp_path)

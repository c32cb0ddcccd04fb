"""The subset that CI runs: real serving, Milvus Lite and ledger, `marquee launches` every five seconds."""

import json

from bench.launches import __main__ as bench
from bench.launches import table


def test_what_lands_is_shown_and_what_closes_is_gone_and_a_rerun_measures_nothing_again(tmp_path, monkeypatch, capsys):
    out = tmp_path / "results.jsonl"
    arguments = ["--launches", "3", "--closures", "2", "--titles", "150", "--period", "5", "--every", "5", "--span", "5", "--out", str(out)]
    assert bench.main(arguments) == 0
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert sorted((row["kind"], row["number"]) for row in rows) == [("closure", 0), ("closure", 1), ("launch", 0), ("launch", 1), ("launch", 2)]
    assert all(0 < row["seconds"] < 60 for row in rows if row["kind"] == "launch")
    assert all(row["seconds"] < 60 for row in rows)
    monkeypatch.setattr(bench, "home", None)  # nothing is left to measure
    assert bench.main(arguments) == 0
    assert table.rendered(rows) in capsys.readouterr().out

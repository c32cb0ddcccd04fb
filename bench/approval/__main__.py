"""Tries each way round the approval through a real Airflow, and writes down whether it was refused, and why.

    python -m bench.approval --home /tmp/ways --results bench/approval/results.jsonl
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.approval import ways, world
from contracts.settings import REPOSITORY
from local import services

HEAD = """# Ways round the approval

`python -m bench.approval` starts Milvus Lite, Airflow and serving in a home of their own, makes candidates with real files
and a real collection, and tries each way round through Airflow's API. The table has the newest outcome of each way in
`results.jsonl`, which also says at which revision. A control has to go through, so that nothing is refused just because all
is. The same refusals without Airflow, in seconds: `tests/jobs/release/test_promote.py` and `test_override.py`.

| way | | said |
| --- | --- | --- |
"""


def table(results: Path) -> None:
    """The page beside the results."""
    newest = {outcome["way"]: outcome for outcome in map(json.loads, results.read_text().splitlines())}
    rows = [(o["way"], "goes live" if o["allowed"] else "refused" if o["refused"] else "**NOT REFUSED**", o["reason"].replace("|", "\\|"))
            for o in newest.values()]
    results.with_name("README.md").write_text(HEAD + "".join(f"| {' | '.join(row)} |\n" for row in rows))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, default=None, help="a new folder; default: a temporary one")
    parser.add_argument("--results", type=Path, default=REPOSITORY / "bench" / "approval" / "results.jsonl")
    parser.add_argument("--evidence", type=Path, default=None, help="folder with card.md and report.html of a real release")
    parser.add_argument("--only", nargs="*", default=[], help="groups: answers, bytes, gates, time, moved, report, two")
    parser.add_argument("--keep", action="store_true", help="leave the services running, to look at")
    options = parser.parse_args()
    began = time.monotonic()
    here = world.start((options.home or Path(tempfile.mkdtemp(prefix="marquee-ways-"))).resolve(), options.evidence)
    code = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=REPOSITORY, capture_output=True, text=True).stdout.strip()
    outcomes = []
    try:
        for outcome in ways.all_ways(here, options.only):
            outcomes.append(outcome)
            print(f"{'ALLOWED AS IT SHOULD BE' if outcome['allowed'] else 'refused' if outcome['refused'] else 'NOT REFUSED'}: "
                  f"{outcome['way']}: {outcome['reason']}", flush=True)
            with options.results.open("a") as file:
                file.write(json.dumps({"code": code, **outcome}) + "\n")
    finally:
        if not options.keep:
            services.down(here.settings)
    table(options.results)
    open_ways = sum(not outcome["refused"] and not outcome["allowed"] for outcome in outcomes)
    print(f"{open_ways} ways round in {time.monotonic() - began:.0f} s; {options.results}")
    return 1 if open_ways else 0


if __name__ == "__main__":
    sys.exit(main())

"""Breaks a good night in one place at a time and writes down which check stopped it; or runs good nights and counts alarms.

    python -m bench.faults --list
    python -m bench.faults [--only NAME …] [--after STEP] [--root FOLDER] [--out results.jsonl]
    python -m bench.faults --clean 20
    python -m bench.faults --table             # the README's table, from the results

Resumable: what has a line in the results is not run again. The good night is made once under --root (minutes) and copied.
"""

import argparse
import json
import sys
import time
from pathlib import Path

from bench.faults import table
from bench.faults.faults import FAULTS, Fault
from bench.faults.town import STEPS, Town, good_nights

HERE = Path(__file__).parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=[], help="faults whose name has one of these texts")
    parser.add_argument("--after", choices=STEPS, nargs="+", help="faults that are put in after these steps")
    parser.add_argument("--root", type=Path, default=Path(".marquee/faults"), help="home, copies and logs; about 400 MB")
    parser.add_argument("--out", type=Path, default=HERE / "results.jsonl")
    parser.add_argument("--seed", type=int, default=7, help="of the simulated world")
    parser.add_argument("--clean", type=int, default=0, help="so many good nights, one after the other, in place of faults")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--table", action="store_true", help="write the README's table from --out and end")
    options = parser.parse_args()
    if options.list:
        print("\n".join(f"{fault.after:<12} {fault.name}" for fault in FAULTS))
        return
    if not options.table:
        run(options)
    table.write(HERE / "README.md", results(options.out))


def run(options: argparse.Namespace) -> None:
    town = Town(options.root, options.seed)
    town.root.mkdir(parents=True, exist_ok=True)
    try:
        good_nights(town)
        if options.clean:
            clean_nights(town, options.clean, options.out)
        else:
            done = {one["name"] for one in results(options.out)}
            for fault in chosen(options.only, options.after):
                if fault.name not in done:
                    append(options.out, stopped_by(town, fault))
    finally:
        town.stop_milvus()


def chosen(only: list[str], after: list[str] | None) -> list[Fault]:
    """The faults that are asked for."""
    return [fault for fault in FAULTS if (not only or any(text in fault.name for text in only)) and (not after or fault.after in after)]


def stopped_by(town: Town, fault: Fault) -> dict:
    """Puts the fault into a copy of the good night and goes on from there."""
    began = time.monotonic()
    town.restore(fault.after)
    town.index_touched = fault.index or STEPS.index(fault.after) < STEPS.index("index")  # the night makes its own
    fault.put_in(town)
    stop = next((done for done in town.run(fault.after) if done.stopped), None)
    return {"kind": "fault", "name": fault.name, "after": fault.after, "stopped": stop is not None, "by": stop.step if stop else "",
            "words": stop.words if stop else "", "named": bool(stop and fault.named(stop.words)), "seconds": round(time.monotonic() - began)}


def clean_nights(town: Town, count: int, out: Path) -> None:
    """Night after night in one home; each is approved, the next is judged against it. An alarm is kept and ends the run."""
    before = STEPS[-1]
    town.index_touched = True  # the index of a run that was broken off may be another night's
    for n in range(1, count + 1):
        copy, began = f"clean-{n}", time.monotonic()
        if not town.has(copy):
            town.restore(before)
            town.make_live()
            alarm = next((done for name in STEPS if (done := town.step(name)).stopped), None)
            append(out, {"kind": "clean", "name": f"clean night {n} of world {town.seed}", "stopped": alarm is not None,
                         "by": alarm.step if alarm else "", "words": alarm.words if alarm else "", "seconds": round(time.monotonic() - began)})
            if alarm:
                return
            town.keep(copy)
        before = copy


def results(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def append(path: Path, one: dict) -> None:
    with path.open("a") as file:
        file.write(json.dumps(one, ensure_ascii=False) + "\n")
    print(f"{one['name']}: {'stopped by ' + one['by'] if one['stopped'] else 'not stopped'} ({one['seconds']} s)", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()

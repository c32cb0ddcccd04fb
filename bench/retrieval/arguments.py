"""The command line that the benchmarks of retrieval, ranking and peers share."""

import argparse
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

from bench.retrieval.data import PROTOCOLS
from contracts.errors import MarqueeError, UsageError


def parser(program: str, description: str) -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(program, description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--interactions", type=Path, required=True)
    made.add_argument("--titles", type=Path)
    made.add_argument("--profiles", type=Path)
    made.add_argument("--protocol", choices=PROTOCOLS, required=True)
    made.add_argument("--unordered", action="store_true", help="the order means nothing: places, recency and last title are off")
    made.add_argument("--fit", choices=("train", "train+valid"), default="train", help="whether the final model learns from validation rows")
    made.add_argument("--seed", type=seed, default=7)
    made.add_argument("--threads", type=at_least_one, default=cores(), help="all cores unless told otherwise; equal threads give equal results")
    made.add_argument("--k", type=_cut_offs, default=[10, 20, 50, 200], help="10 is always among them")
    made.add_argument("--out", type=Path, required=True)
    return made


def cores() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def at_least_one(text: str) -> int:
    if int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text}: 1 at least")
    return int(text)


def seed(text: str) -> int:
    if not 0 <= int(text) < 2**32:
        raise argparse.ArgumentTypeError(f"{text}: seeds are 0 to {2**32 - 1}")
    return int(text)


def _cut_offs(text: str) -> list[int]:
    ks = sorted({10, *(int(k) for k in text.split(","))})
    if ks[0] < 1:
        raise argparse.ArgumentTypeError(f"{text}: cut-offs start at 1")
    return ks


def _writable(out: Path) -> None:
    if not out.resolve().parent.is_dir():
        raise UsageError(f"--out {out}: no such folder")
    if out.is_dir():
        raise UsageError(f"--out {out}: a folder; a file's name is needed")
    if not os.access(out if out.exists() else out.resolve().parent, os.W_OK):
        raise UsageError(f"--out {out}: may not be written")


def carry_out(options: argparse.Namespace, program: str, run: Callable[[argparse.Namespace], dict], table: Callable[[dict], str]) -> None:
    """Writes the result and prints its table; what a person can act on ends in one line and exit code 1 or 2."""
    try:
        _writable(options.out)  # before hours of work
        result = run(options)
    except MarqueeError as error:
        print(f"{program}: {error}", file=sys.stderr)
        sys.exit(2 if isinstance(error, UsageError) else 1)
    options.out.write_text(json.dumps(result, indent=1) + "\n")
    print(table(result))

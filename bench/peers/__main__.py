"""Peers on the rows, split and evaluation of bench.retrieval; `titles` and `profiles` are not read: peers know ids only.

    python -m bench.peers --interactions FILE.parquet --protocol roles --out result.json [--peers als,ease]

The first run makes an environment of their own under MARQUEE_HOME. Each peer runs in a process of its own, whose time and
memory are its own; a peer that cannot run is named with its reason.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from bench.peers import environment
from bench.peers.models import PEERS, SASREC
from bench.retrieval import arguments
from bench.retrieval.evaluate import table
from contracts.errors import UsageError
from contracts.settings import REPOSITORY

PROGRAM = "bench.peers"
NAMES = (*PEERS, SASREC)
NEED_ORDER = (*(name for name, peer in PEERS.items() if peer.takes_order), SASREC)


def main() -> None:
    arguments.carry_out(parser().parse_args(), PROGRAM, run,
                        lambda result: table({name: found["test"] for name, found in result["peers"].items() if "test" in found}))


def parser() -> argparse.ArgumentParser:
    made = arguments.parser(f"python -m {PROGRAM}", __doc__)
    made.add_argument("--peers", default=",".join(NAMES), help=f"any of {', '.join(NAMES)} (default: all)")
    made.add_argument("--epochs", type=int, default=100, help="of SASRec at most; it stops where validation stops rising")
    return made


def run(options: argparse.Namespace) -> dict:
    """Everything that the result file holds."""
    wanted = options.peers.split(",")
    unknown = [name for name in wanted if name not in NAMES]
    if unknown:
        raise UsageError(f"--peers {','.join(unknown)}: there are {', '.join(NAMES)}")
    interpreter = environment.python()
    found = {name: {"not_run": "it learns from order, and --unordered says that there is none"}
             if options.unordered and name in NEED_ORDER else _one(interpreter, name, options) for name in wanted}
    if not any("test" in one for one in found.values()):
        raise UsageError(f"{options.interactions}: no peer ran: " + "; ".join(f"{name}: {one['not_run']}" for name, one in found.items()))
    shape = next(one["data"] for one in found.values() if "data" in one)
    return {
        "peers": {name: {key: value for key, value in one.items() if key != "data"} for name, one in found.items()}, "data": shape,
        "configuration": {"protocol": options.protocol, "fit": options.fit, "ordered": not options.unordered, "seed": options.seed,
                          "threads": options.threads, "seen": "left out", "epochs": options.epochs},
    }


def _one(interpreter: Path, name: str, options: argparse.Namespace) -> dict:
    """The result of one peer's process, whose progress goes to standard error; why, where it ends without one."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "result.json"
        command = [interpreter, "-m", "bench.peers.one", name, "--interactions", options.interactions.resolve(), "--protocol", options.protocol,
                   "--fit", options.fit, "--seed", options.seed, "--threads", options.threads, "--k", ",".join(map(str, options.k)),
                   "--epochs", options.epochs, "--out", out]
        threads = {f"{library}_NUM_THREADS": str(options.threads) for library in ("OMP", "OPENBLAS", "MKL")}
        told = []
        with subprocess.Popen([str(part) for part in command], cwd=REPOSITORY, env={**os.environ, **threads, "PYTHONPATH": str(REPOSITORY)},
                              stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as process:
            for line in process.stderr:
                told.append(line.strip())
                print(f"{name}: {told[-1]}", file=sys.stderr)
        if process.returncode == 2:
            raise UsageError(told[-1].removeprefix(f"{PROGRAM}: "))
        return json.loads(out.read_text()) if process.returncode == 0 else {"not_run": f"ended with {process.returncode}: {(told or ['nothing said'])[-1]}"}


if __name__ == "__main__":
    main()

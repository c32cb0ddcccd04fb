"""Peers on the rows, split and evaluation of bench.retrieval; `titles` and `profiles` are not read: peers know ids only.

    python -m bench.peers --interactions FILE.parquet --protocol roles --out result.json [--peers als,ease]

The first run makes an environment of their own under MARQUEE_HOME. Each peer runs in a process of its own, whose time and
memory are its own; a peer that cannot run is named with its reason. Started again with the same arguments and --out, it
runs the peers that are not there yet.
"""

import argparse
import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from bench.peers import environment
from bench.peers.models import PEERS, SASREC
from bench.retrieval import arguments
from bench.retrieval.evaluate import table
from contracts import durable
from contracts.errors import UsageError
from contracts.settings import REPOSITORY

PROGRAM = "bench.peers"
NAMES = (*PEERS, SASREC)
NEEDS_ORDER = {"not_run": "it learns from order, and --unordered says that there is none"}
NEED_ORDER = (*(name for name, peer in PEERS.items() if peer.takes_order), SASREC)


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
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
    if not options.interactions.is_file():
        raise UsageError(f"{options.interactions}: no such file")
    interpreter = environment.python()
    configuration = {
        "protocol": options.protocol, "fit": options.fit, "ordered": not options.unordered, "seed": options.seed, "threads": options.threads,
        "seen": "left out", "epochs": options.epochs, "k": options.k, "interactions": hashlib.sha256(options.interactions.read_bytes()).hexdigest(),
    }
    found = _kept(options.out, configuration)
    for name in wanted:
        if "test" not in found.get(name, {}):
            found[name] = NEEDS_ORDER if options.unordered and name in NEED_ORDER else _one(interpreter, name, options)
            durable.write(options.out, json.dumps(_result(found, configuration), indent=1) + "\n")
    if not any("test" in one for one in found.values()):
        options.out.unlink(missing_ok=True)
        raise UsageError(f"{options.interactions}: no peer ran: " + "; ".join(f"{name}: {one['not_run']}" for name, one in found.items()))
    return _result(found, configuration)


def _kept(path: Path, configuration: dict) -> dict[str, dict]:
    """Peers of an earlier run of this very configuration, which this one goes on from."""
    try:
        earlier = json.loads(path.read_text())
        if earlier["configuration"] != configuration:
            return {}
        return {name: {**one, **({"data": earlier["data"]} if "test" in one else {})} for name, one in earlier["peers"].items()}
    except (FileNotFoundError, ValueError, KeyError):
        return {}


def _result(found: dict[str, dict], configuration: dict) -> dict:
    return {"peers": {name: {key: value for key, value in found[name].items() if key != "data"} for name in NAMES if name in found},
            "data": next((one["data"] for one in found.values() if "data" in one), None), "configuration": configuration}


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
            try:
                for line in process.stderr:
                    told.append(line.strip())
                    print(f"{name}: {told[-1]}", file=sys.stderr, flush=True)
            except BaseException:  # a benchmark that ends takes its peer with it
                process.terminate()
                raise
        if process.returncode == 2:
            raise UsageError(told[-1].removeprefix(f"{PROGRAM}: "))
        return json.loads(out.read_text()) if process.returncode == 0 else {"not_run": f"ended with {process.returncode}: {(told or ['nothing said'])[-1]}"}


if __name__ == "__main__":
    main()

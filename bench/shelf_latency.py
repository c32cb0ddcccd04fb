"""Latency of the shelf of a running home: bounded load on loopback from several clients, repeated, with spread.

    python -m bench.shelf_latency --profiles 200 --requests 1000 --clients 4 --repeats 5
"""

import argparse
import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np

from contracts import paths
from contracts.settings import Settings, load
from jobs.lake import read
from local import tokens


def profiles(settings: Settings, count: int) -> list[str]:
    """Profile ids in a stable order."""
    table = read.table(settings, "marts.dim_profile_version", columns=["profile_id"])
    return sorted(set(table["profile_id"].to_pylist()))[:count]


def timed_requests(settings: Settings, headers: dict[str, dict], requests: int, clients: int) -> tuple[np.ndarray, int]:
    """(requests,) seconds, and how many answers were not a full shelf."""
    order = [name for _, name in zip(range(requests), _cycle(list(headers)))]
    failed = 0

    def one(name: str) -> float:
        nonlocal failed
        begin = time.perf_counter()
        answer = client.get(paths.shelf(name), headers=headers[name])
        taken = time.perf_counter() - begin
        if answer.status_code != 200 or answer.json()["degraded"] or not answer.json()["titles"]:
            failed += 1
        return taken

    with httpx.Client(base_url=settings.serving_address(), timeout=30) as client, ThreadPoolExecutor(clients) as pool:
        return np.array(list(pool.map(one, order))), failed


def _cycle(values: list[str]):
    while True:
        yield from values


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("profiles", 200), ("requests", 1000), ("clients", 1), ("repeats", 5)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    settings = load()
    names = profiles(settings, options.profiles)
    if not names:
        sys.exit("no profiles in the lake: run a night first")
    headers = {name: {"Authorization": f"Bearer {tokens.for_profile(settings, name, 1.0)}"} for name in names}
    timed_requests(settings, headers, min(50, options.requests), options.clients)  # warm-up
    runs = [timed_requests(settings, headers, options.requests, options.clients) for _ in range(options.repeats)]
    milliseconds = {f"p{q}": [1000 * float(np.percentile(times, q)) for times, _ in runs] for q in (50, 95, 99)}
    not_full = sum(failed for _, failed in runs)
    if options.json:
        print(json.dumps({"milliseconds": milliseconds, "not_full": not_full, **vars(options)}))
        return
    print(f"{options.repeats} x {options.requests} requests, {options.clients} client(s), {len(names)} profiles; {not_full} not full")
    print("| | min ms | median ms | max ms |\n| --- | --- | --- | --- |")
    for name, values in milliseconds.items():
        low, middle, high = (f"{v:.1f}" for v in (min(values), float(np.median(values)), max(values)))
        print(f"| {name} | {low} | {middle} | {high} |")


if __name__ == "__main__":
    main()

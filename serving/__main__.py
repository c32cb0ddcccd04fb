"""`python -m serving`: the API on one port."""

import argparse
import logging
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from threading import Lock

os.environ["TZ"] = "UTC"  # Feast formats times in the process' zone
time.tzset()

import uvicorn  # noqa: E402

from contracts import clock  # noqa: E402
from contracts.errors import MarqueeError, UsageError  # noqa: E402
from contracts.settings import Settings, load  # noqa: E402
from ledger import Ledger, open_ledger  # noqa: E402
from serving import auth, loader  # noqa: E402
from serving.app import Service, create_app  # noqa: E402
from serving.eligibility import EligibilityLog  # noqa: E402
from serving.hydrate import FeastHydrator, FolderHydrator  # noqa: E402
from serving.live import Live, Pinned  # noqa: E402
from serving.metrics import Metrics  # noqa: E402
from serving.pipeline import Clients  # noqa: E402
from serving.vectors import Vectors  # noqa: E402

log = logging.getLogger("marquee.serving")

SHADOW_SEARCH_BUDGET_SECONDS = 5.0
"""The judge measures quality, not latency."""
LOOPBACK = "127.0.0.1"
STOP_SECONDS = 10


def ledger_opener(settings: Settings) -> Callable[[], Ledger]:
    """Opens the ledger on first use and keeps it; a failure is raised and tried again at the next call."""
    opened: list[Ledger] = []
    opening = Lock()

    def ledger() -> Ledger:
        with opening:
            if not opened:
                opened.append(open_ledger(settings))
            return opened[0]

    return ledger


def live_service(settings: Settings, port: int) -> Service:
    """The API proper: follows the ledger's pointer."""
    ledger, metrics = ledger_opener(settings), Metrics()
    eligibility = EligibilityLog(ledger)
    vectors = Vectors(settings, settings.search_budget_ms / 1000)
    hydrator = FeastHydrator(settings, settings.hydrate_budget_ms / 1000)
    address = f"http://{settings.bind_host}:{port}"
    source = Live(settings, ledger, eligibility, vectors, metrics, address)
    clients = Clients(hydrator, vectors, metrics)
    return Service(source, eligibility, clients, lambda: clock.now(settings.home), auth.secret(settings))


def shadow_service(settings: Settings, release_id: str, member_state: Path) -> Service:
    """One given release for the judge: built, perhaps not judged yet; member state from a folder."""
    folder = settings.releases / release_id
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such release")
    metrics = Metrics()
    eligibility = EligibilityLog(ledger_opener(settings))
    vectors = Vectors(settings, SHADOW_SEARCH_BUDGET_SECONDS)
    clients = Clients(FolderHydrator(member_state), vectors, metrics)
    source = Pinned(loader.load(folder, judged=False), vectors)
    return Service(source, eligibility, clients, lambda: clock.now(settings.home), key=None)


def serve(arguments: argparse.Namespace) -> None:
    settings = load()
    if arguments.shadow:
        if not arguments.release or not arguments.member_state:
            raise UsageError("--shadow needs --release and --member-state")
        service = shadow_service(settings, arguments.release, arguments.member_state)
    elif arguments.release or arguments.member_state:
        raise UsageError("--release and --member-state are for --shadow; the live release is the ledger's to say")
    else:
        service = live_service(settings, arguments.port)
    host = LOOPBACK if arguments.shadow else settings.bind_host
    uvicorn.run(create_app(service), host=host, port=arguments.port, access_log=False, log_level="warning",
                timeout_graceful_shutdown=STOP_SECONDS)


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m serving", description="Serves shelves from the live release.")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--shadow", action="store_true", help="serve one given release to the judge, on loopback")
    parser.add_argument("--release", help="release id (shadow only)")
    parser.add_argument("--member-state", type=Path, help="folder with profiles.parquet and plays.parquet (shadow only)")
    return parser


def main() -> None:
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    log.setLevel(logging.INFO)
    try:
        serve(parser().parse_args())
    except UsageError as error:
        print(f"serving: {error}", file=sys.stderr)
        sys.exit(2)
    except MarqueeError as error:
        print(f"serving: failed: {error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()

"""A home with the real services and candidates that were judged in no time: real towers, collection, ranker, evidence."""

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from contracts import release as names
from contracts.release import Manifest, Payload, State, evidence_digest, file_entry
from contracts.settings import Settings
from ledger import Ledger
from local import home, ports, services
from local.airflow_api import Airflow
from tests.serving import tiny_world
from tests.serving.tiny_world import Catalogue

FINISHED = ("success", "failed")


@dataclass
class World:
    """Services of one home, its people, and how to make a candidate. `evidence` is a folder with a card and a report."""

    settings: Settings
    ledger: Ledger
    evidence: Path | None = None
    catalogue: Catalogue = field(default_factory=lambda: Catalogue(40, 7))
    people: dict[str, Airflow] = field(default_factory=dict)

    def enter(self) -> None:
        """Eligibility, and everybody's sign-in."""
        self.ledger.append_eligibility(self.catalogue.log)
        for name, password in home.airflow_secrets(self.settings)["passwords"].items():
            self.people[name] = Airflow(self.settings.airflow_address(), name, password)

    @property
    def service(self) -> Airflow:
        return self.people[self.settings.airflow_user]

    def candidate(self, release: str, seed: int, failed: tuple[str, ...] = (), rebuilt: bool = False) -> Manifest:
        """Built, sealed and judged against what is live; `failed` gates block it."""
        folder = self.settings.releases / release
        if rebuilt:
            shutil.rmtree(folder)
        tiny_world.build_release(self.settings, self.catalogue, release, seed, judged=False)
        if not rebuilt:
            self.ledger.begin(release, "2026-03-31", "bench")
            self.ledger.move(release, State.BUILT, "bench")
        return self.judge(release, failed)

    def judge(self, release: str, failed: tuple[str, ...] = (), note: str = "") -> Manifest:
        folder = self.settings.releases / release
        pointer = self.ledger.pointer()
        live = pointer.release_id if pointer else None
        payload = Payload.model_validate_json((folder / names.PAYLOAD).read_bytes())
        place = folder / names.EVIDENCE
        place.mkdir(exist_ok=True)
        gates = [{"name": name, "rule": "at least so much", "threshold": 1.0, "figure": 0.5, "verdict": "failed",
                  "reason": "0.5 of 1", "overridable": name != "no_ineligible_title"} for name in failed]
        (place / "gates.json").write_text(json.dumps({"verdict": "blocked" if failed else "passed", "gates": gates}))
        card, report = (self.evidence / name if self.evidence else None for name in ("card.md", "report.html"))
        (place / "card.md").write_text(card.read_text() if card else f"## {release}\n\ncompared with {live}\n{note}")
        (place / "report.html").write_text(report.read_text() if report else f"<!doctype html><h1>{release}</h1><p>Evidence.")
        files = {name: file_entry(place / name) for name in ("card.md", "gates.json", "report.html")}
        manifest = Manifest(release_id=release, day="2026-03-31", payload=payload, evidence=files, compared_with=live,
                            evidence_digest=evidence_digest(files, payload.payload_digest, live),
                            verdict="blocked" if failed else "passed", failed_gates=list(failed))
        (folder / names.MANIFEST).write_text(manifest.model_dump_json())
        self.ledger.move(release, State.BLOCKED if failed else State.JUDGED, "judge", "judged by the bench")
        self.ledger.set_digests(release, payload.payload_digest, manifest.evidence_digest, live)
        return manifest

    def promote(self, manifest: Manifest, by: str | None = None, **more: Any) -> str:
        """A run of `promote` for the candidate, started as the service user or as a person."""
        key = f"{manifest.release_id}.{manifest.evidence_digest[:10]}"
        body = {"logical_date": None, "partition_key": key} | more
        return self.people[by or self.settings.airflow_user].trigger("promote", body)["dag_run_id"]

    def states(self, run: str) -> dict[str, str | None]:
        return {task["task_id"]: task["state"] for task in self.service.tasks("promote", run)}

    def wait_for_question(self, run: str, task: str = "approve") -> None:
        """Until it waits; an answer within 5 s of it can race with the scheduler."""
        wait(lambda: self.states(run).get(task) == "awaiting_input", lambda: f"{run}: no question at {task}, but {self.states(run)}")
        time.sleep(6)

    def wait_for_end(self, run: str) -> str:
        wait(lambda: self.service.run("promote", run)["state"] in FINISHED, lambda: f"{run} does not end: {self.states(run)}")
        return self.service.run("promote", run)["state"]

    def set_state(self, run: str, task: str, state: str, by: str) -> None:
        self.people[by].request("PATCH", f"/dags/promote/dagRuns/{run}/taskInstances/{task}", json={"new_state": state})

    def answer(self, run: str, option: str, by: str, reason: str = "seen", task: str = "approve") -> None:
        self.people[by].answer("promote", run, task, option, {"reason": reason})

    def refusals(self, release: str, run: str) -> list[str]:
        """What the ledger says that it refused in this run."""
        return [t.reason for t in self.ledger.transitions(release) if t.reason.startswith("refused") and t.details.get("run") == run]

    def settle(self, **settings: str) -> None:
        """Changes this home's settings for every process that starts from now on."""
        home.write_file(self.settings.home, {home.variable(name): value for name, value in settings.items()})


def wait(look: Callable[[], Any], otherwise: Callable[[], str], seconds: float = 180) -> None:
    deadline = time.monotonic() + seconds
    while not look():
        if time.monotonic() > deadline:
            raise TimeoutError(otherwise())
        time.sleep(0.5)


def start(path: Path, evidence: Path | None) -> World:
    """The services of a new home, on ports that nobody uses."""
    from ledger import open_ledger

    path.mkdir(parents=True, exist_ok=True)
    taken: set[int] = {8080, 8000, 19530}
    chosen = {}
    for setting in home.PORTS.values():
        taken.add(port := ports.choose(8080, taken, path))
        chosen[home.variable(setting)] = str(port)
    if not (path / home.SETTINGS_FILE).exists():
        # the night is none of this bench's business
        home.write_file(path, chosen | {"MARQUEE_NIGHTLY_UNTIL": "2000-01-01", "MARQUEE_RECIPE": "nano"})
    settings = services.start(Settings(_env_file=path / home.SETTINGS_FILE, home=path))
    world = World(settings, open_ledger(settings), evidence)
    world.enter()
    for dag in ("promote", "roll_back", "watch", "launches"):
        world.service.wait_for_dag(dag)
    for dag in ("watch", "launches"):
        world.service.request("PATCH", f"/dags/{dag}", json={"is_paused": True})
    return world



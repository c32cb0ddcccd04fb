"""Releases of a few titles with real models, a real HTTP server that speaks hitlDetails' schema, one that speaks the
shelf's, and replicas that follow the ledger as serving does."""

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import lightgbm
import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from onnx import TensorProto, helper

from contracts import release as names
from contracts.eligibility import FAR, Record
from contracts.features import RANKING_FEATURES
from contracts.marts import TITLE_FEATURES
from contracts.query import ITEM_INPUTS, ITEM_OUTPUT, QUERY_INPUTS, QUERY_OUTPUT
from contracts.release import Manifest, Payload, Provenance, RankerSpec, ReleaseSpec, State, collection_name
from contracts.settings import Settings
from contracts.tags import TagRecord
from jobs.release import begin, inputs, rebuild, retraining, seal, unchanged
from jobs.release.ask import asked
from ledger import Ledger, open_ledger

D = 4
DAY = "2026-03-31"
TITLES = ["t1", "t2", "t3"]
RUN = "asset_triggered__one"


@pytest.fixture(scope="session")
def ranker_text() -> str:
    """A real LightGBM model of two leaves."""
    rng = np.random.default_rng(7)
    data = lightgbm.Dataset(rng.normal(size=(200, len(RANKING_FEATURES))), rng.integers(0, 2, 200), feature_name=list(RANKING_FEATURES))
    return lightgbm.train({"objective": "binary", "num_leaves": 2, "verbose": -1, "num_threads": 1}, data, 1).model_to_string()


@pytest.fixture
def settings(tmp_path) -> Settings:
    """A home whose Milvus answers nobody; the two servers set their own addresses."""
    return Settings(_env_file=None, home=tmp_path, milvus_url="http://127.0.0.1:9", token_secret="s" * 40, airflow_user="marquee",
                    airflow_password="secret", approvers="approver1,approver2", requesters="ann")


@pytest.fixture
def ledger(settings) -> Ledger:
    ledger = open_ledger(settings)
    yield ledger
    ledger.close()


def tower(path: Path, inputs: tuple[str, ...], output: str, width: int = D) -> None:
    """A model with these inputs and (B, width) output: the first input's rows, averaged."""
    kinds = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["B", width]) for name in inputs]
    sums = helper.make_node("Sum", list(inputs), [output])
    graph = helper.make_graph([sums], "tower", kinds, [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["B", width])])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)


def tag() -> TagRecord:
    return TagRecord(ds=DAY, first=date(2026, 3, 31), last=date(2026, 3, 31), has_impressions=True, tables={})


def build(settings: Settings, release: str, ranker: str, kind: str = "lambdamart", flavour: float = 0.0) -> Path:
    """The files of a release, as the build steps leave them; `flavour` makes other bytes."""
    root = settings.releases / release
    root.mkdir(parents=True)
    provenance = Provenance(release_id=release, day=DAY, tag=tag(), training=tag(), code="c", recipe={"name": "nano"}, seed=7, libraries={})
    (root / names.PROVENANCE).write_text(provenance.model_dump_json())
    tower(root / names.QUERY_TOWER, QUERY_INPUTS, QUERY_OUTPUT)
    tower(root / names.ITEM_TOWER, ITEM_INPUTS, ITEM_OUTPUT)
    vectors_TD = np.eye(len(TITLES), D, dtype=np.float32)
    np.save(root / names.ITEM_VECTORS, vectors_TD)
    features = {name: np.full(len(TITLES), flavour) for name in TITLE_FEATURES}
    pq.write_table(pa.table({"title_id": TITLES, "name": TITLES, "genres": [["drama"]] * 3, "maturity": [0, 7, 16],
                             "id_index": [1, 2, 0], **features}), root / names.TITLES)
    for neighbours in (names.TRANSITIONS, names.COWATCH):
        pq.write_table(pa.table({"from_title": ["t1"], "to_title": ["t2"], "weight": [1.0]}), root / neighbours)
    pq.write_table(pa.table({"market": ["nl"], "cohort": ["general"], "rank": [1], "title_id": ["t1"], "score": [1.0]}), root / names.FALLBACK)
    if kind == "lambdamart":
        (root / names.RANKER).write_text(ranker)
    spec = ReleaseSpec(release_id=release, day=DAY, dimension=D, history_length=5, collection=collection_name(release), markets=["nl"],
                       feature_service="ranking_v1", ranker=RankerSpec(kind=kind, features=list(RANKING_FEATURES)))
    (root / names.SPEC).write_text(spec.model_dump_json())
    return root


def judge(settings: Settings, ledger: Ledger, release: str, compared_with: str | None, verdict: str = "passed",
          failed: tuple[str, ...] = ("recall",), note: str = "") -> Manifest:
    """Evidence and manifest, as the judge leaves them."""
    failed = failed if verdict == "blocked" else ()
    root = settings.releases / release
    (root / names.EVIDENCE).mkdir(exist_ok=True)
    (root / names.EVIDENCE / "card.md").write_text(f"# {release}\nbetter than {compared_with}\n{note}")
    gates = [{"name": name, "rule": "at least so much", "verdict": "failed", "reason": f"{name} is low", "overridable": name != "ineligible"}
             for name in failed]
    (root / names.EVIDENCE / "gates.json").write_text(json.dumps({"verdict": verdict, "gates": gates}))
    evidence = {name: names.file_entry(root / names.EVIDENCE / name) for name in ("card.md", "gates.json")}
    payload = Payload.model_validate_json((root / names.PAYLOAD).read_bytes())
    manifest = Manifest(release_id=release, day=DAY, payload=payload, evidence=evidence, compared_with=compared_with, verdict=verdict,
                        evidence_digest=names.evidence_digest(evidence, payload.payload_digest, compared_with),
                        failed_gates=list(failed))
    (root / names.MANIFEST).write_text(manifest.model_dump_json())
    ledger.move(release, State.BLOCKED if verdict == "blocked" else State.JUDGED, "judge")
    ledger.set_digests(release, payload.payload_digest, manifest.evidence_digest, compared_with)
    return manifest


@pytest.fixture
def make(settings, ledger, ranker_text) -> Callable[..., Manifest]:
    """`make("r1", compared_with=None)`: a release built, sealed and judged."""

    def make(release: str, compared_with: str | None = None, verdict: str = "passed", flavour: float = 0.0, **more: Any) -> Manifest:
        build(settings, release, ranker_text, flavour=flavour)
        ledger.begin(release, DAY, "begin")
        seal.run(settings, release)
        return judge(settings, ledger, release, compared_with, verdict, **more)

    return make


@pytest.fixture
def code(monkeypatch, tmp_path):
    """A source tree of the test's own: the real one changes while people work on it."""
    root = tmp_path / "repository"
    for folder in inputs.CODE:
        (root / folder).mkdir(parents=True)
    for module in (begin, rebuild, retraining, unchanged):
        monkeypatch.setattr(module, "REPOSITORY", root)
    return root


@dataclass
class Airflow:
    """What Airflow says of the questions of one run; `detail` (the first), `second` and `dag_run` have the shape of its
    REST API (3.3). `elsewhere` are questions of other runs, `tries` earlier tries of the first."""

    ledger: Ledger
    port: int = 0
    detail: dict[str, Any] | None = None
    second: dict[str, Any] | None = None
    elsewhere: list[dict[str, Any]] = field(default_factory=list)
    tries: list[dict[str, Any]] = field(default_factory=list)
    dag_run: dict[str, Any] = field(default_factory=lambda: {"dag_run_id": RUN, "triggering_user_name": None, "run_type": "asset_triggered"})
    night: dict[str, Any] | None = None
    event: dict[str, Any] | None = None
    triggered: list[dict[str, Any]] = field(default_factory=list)
    password: str = "secret"

    def question(self, manifest: Manifest, task: str = "approve", run: str = RUN) -> dict[str, Any]:
        """As Airflow has it when it was asked."""
        now = datetime.now(UTC).isoformat()
        return {
            "options": ["Approve", "Reject"], "subject": "?", "defaults": None, "multiple": False, "params": {}, "assigned_users": [],
            "body": asked(self.ledger, manifest.release_id).body,
            "created_at": now, "response_received": False, "responded_by_user": None, "responded_at": None,
            "chosen_options": None, "params_input": {},
            "task_instance": {"state": "awaiting_input", "start_date": now, "dag_id": "promote", "dag_run_id": run, "task_id": task,
                              "try_number": 1},
        }

    def ask(self, manifest: Manifest) -> None:
        self.detail = self.question(manifest)

    def answer(self, chosen: str = "Approve", who: str = "approver1", reason: str = "better everywhere", **more: Any) -> None:
        self.reply_to(self.detail, chosen, who, reason, **more)

    @staticmethod
    def reply_to(detail: dict[str, Any], chosen: str, who: str, reason: str = "seen", **more: Any) -> None:
        detail |= {
            "response_received": True, "responded_by_user": {"id": who, "name": who}, "responded_at": datetime.now(UTC).isoformat(),
            "chosen_options": [chosen], "params_input": {"reason": reason}, **more,
        }
        detail["task_instance"]["state"] = "success"

    def reply(self, method: str, path: str, headers: Any, body: dict[str, Any]) -> tuple[int, Any]:
        if (method, path) == ("POST", "/auth/token"):
            ok = (body.get("username"), body.get("password")) == ("marquee", self.password)
            return (201, {"access_token": "t"}) if ok else (401, {"detail": "Invalid credentials"})
        if headers.get("Authorization") != "Bearer t":
            return 401, {"detail": "Not authenticated"}
        if (method, path) == ("POST", "/api/v2/dags/promote/dagRuns"):
            if any(run["dag_run_id"] == body["dag_run_id"] for run in self.triggered):
                return 409, {"detail": "it exists"}
            self.triggered.append(body)
            return 200, body
        found = self._find(path)
        if found and "limit" in body:
            start = int(body.get("offset", 0))
            found = {name: rows[start : start + min(int(body["limit"]), 100)] for name, rows in found.items()}
        return (200, found) if found else (404, {"detail": "does not exist"})

    def _find(self, path: str) -> Any:
        run, first = f"/api/v2/dags/promote/dagRuns/{RUN}", self.detail
        if path.startswith(f"{run}/taskInstances/approve/-1/hitlDetails/tries/"):
            return self.tries[int(path.rpartition("/")[2]) - 1]
        events = {"asset_events": [self.event or {"source_dag_id": "nightly", "source_run_id": "n1"}] if self.night or self.event else []}
        return {
            f"{run}/taskInstances/approve/-1/hitlDetails": first, f"{run}/taskInstances/approve_second/-1/hitlDetails": self.second,
            "/api/v2/dags/promote/dagRuns/~/hitlDetails": {"hitl_details": [d for d in (first, self.second, *self.elsewhere) if d]},
            run: self.dag_run, f"{run}/upstreamAssetEvents": events, "/api/v2/dags/nightly/dagRuns/n1": self.night,
        }.get(path)


@dataclass
class Api:
    """The serving API, as far as a shelf: `serving` is the release, `shelves` what it shows."""

    settings: Settings
    serving: Callable[[], str | None]
    port: int = 0
    titles: list[str] = field(default_factory=lambda: ["t1"])
    status: int = 200
    asked: list[str] = field(default_factory=list)

    def reply(self, method: str, path: str, headers: Any, body: dict[str, Any]) -> tuple[int, Any]:
        import jwt

        claims = jwt.decode(headers["Authorization"].removeprefix("Bearer "), self.settings.token_secret, algorithms=["HS256"])
        profile = path.split("/")[3]
        assert profile in claims["profiles"]
        self.asked.append(profile)
        return self.status, {
            "release_id": self.serving(), "generated_at": datetime.now(UTC).isoformat(), "no_eligible_titles": not self.titles,
            "titles": [{"position": i + 1, "title_id": t} for i, t in enumerate(self.titles)],
        }


def serve(speaker: Any) -> ThreadingHTTPServer:
    """Speaks on a free loopback port; `speaker.reply` gives status and JSON."""

    class Handler(BaseHTTPRequestHandler):
        def _any(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else {}
            path, _, query = self.path.partition("?")
            status, answer = speaker.reply(self.command, path, self.headers, body or dict(parse_qsl(query)))
            data = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = _any

        def log_message(self, *_: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    speaker.port = server.server_port
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    return server


@pytest.fixture
def airflow(settings, ledger) -> Airflow:
    speaker = Airflow(ledger)
    server = serve(speaker)
    settings.airflow_url = f"http://127.0.0.1:{speaker.port}"
    yield speaker
    server.shutdown()
    server.server_close()


class Replica:
    """Follows the pointer as serving does, in a thread; `stuck` never loads anything new."""

    def __init__(self, settings: Settings, name: str, stuck: bool = False):
        self._ledger, self.name, self.stuck = open_ledger(settings), name, stuck
        self.serving: str | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self.follow()
        self._thread.start()

    def follow(self) -> None:
        pointer = self._ledger.pointer()
        wanted = [r for r in (pointer.release_id, pointer.candidate, pointer.previous) if r] if pointer else []
        if self.stuck:
            wanted = [r for r in wanted if r == self.serving]
        if pointer and (pointer.release_id in wanted or pointer.release_id is None):
            self.serving = pointer.release_id
        self._ledger.heartbeat(self.name, "http://127.0.0.1:1", sorted(set(wanted)), self.serving)

    def _follow(self) -> None:
        while not self._stop.wait(0.03):
            self.follow()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(5)
        self._ledger.leave(self.name)
        self._ledger.close()


@pytest.fixture
def replicas(settings):
    """`replicas("one", stuck=False)` starts one; all end with the test."""
    started: list[Replica] = []

    def start(name: str, stuck: bool = False) -> Replica:
        started.append(Replica(settings, name, stuck))
        return started[-1]

    yield start
    for replica in started:
        replica.stop()


@pytest.fixture
def api(settings, ledger) -> Api:
    """An API that serves what the pointer says, with t1 licensed in its market."""
    ledger.append_eligibility([
        *(Record(0, "title", title, maturity=maturity, key=f"title:{title}") for title, maturity in zip(TITLES, (0, 7, 16))),
        *(Record(0, "licence", title, window_id=f"w-{title}", market="nl", opens_at=0, closes_at=FAR, key=f"w:{title}") for title in TITLES[:2]),
    ])
    speaker = Api(settings, lambda: ledger.pointer().release_id)
    server = serve(speaker)
    settings.serving_url = f"http://127.0.0.1:{speaker.port}"
    yield speaker
    server.shutdown()
    server.server_close()

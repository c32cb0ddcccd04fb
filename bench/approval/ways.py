"""The ways round. Each yields {way, refused, allowed, reason}: `refused` only where live stayed what it was and somebody
said why; `allowed` marks the controls that have to go through, so that nothing is refused just because all is.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime
from typing import Any

import httpx

from bench.approval.world import World, wait
from contracts import release as names
from contracts.errors import MarqueeError
from contracts.release import Manifest
from contracts.settings import REPOSITORY
from jobs.release import promote
from local import airflow_environment

Outcome = dict[str, Any]
A, B, SERVICE, ADMIN = "approver1", "approver2", "marquee", "admin"


def all_ways(w: World, only: list[str]) -> Iterator[Outcome]:
    """Every group, or those named. The first candidate goes live before anything else is tried."""
    yield from good(w, w.candidate("r1", 1), "control: a named approver says yes with a reason")
    second = w.candidate("r2", 2)
    groups: dict[str, Callable[[], Iterator[Outcome]]] = {
        "answers": lambda: without_an_answer(w, second), "bytes": lambda: with_other_bytes(w, second), "gates": lambda: past_the_gates(w),
        "time": lambda: out_of_time(w), "moved": lambda: where_live_moved(w), "report": lambda: report_tab(w), "two": lambda: two_people(w),
    }
    for name, group in groups.items():
        if not only or name in only:
            yield from group()


def good(w: World, manifest: Manifest, way: str) -> Iterator[Outcome]:
    run = w.promote(manifest)
    w.wait_for_question(run)
    w.answer(run, "Approve", A, "better everywhere")
    end = w.wait_for_end(run)
    yield _allowed(w, way, manifest.release_id, end)


# --- answers that are none ------------------------------------------------------------------------------------------

def without_an_answer(w: World, manifest: Manifest) -> Iterator[Outcome]:
    """Many runs about one candidate, side by side; each is another way."""
    r, before = manifest.release_id, live(w)
    forced, probed, forged, empty, conf = (w.promote(manifest, conf={"release": "r1", "approved": True}) for _ in range(5))
    mine = w.promote(manifest, by=A)
    for run in (forced, probed, forged, empty, conf, mine):
        w.wait_for_question(run)

    yield said_no("a user who is no approver answers", lambda: w.answer(conf, "Approve", SERVICE))
    yield said_no("the admin answers", lambda: w.answer(conf, "Approve", ADMIN))
    yield said_no("an approver answers a run that they started by hand", lambda: w.answer(mine, "Approve", A))
    yield said_no("an option that was not offered", lambda: w.answer(conf, "Approve anyway", A))
    yield said_no("nobody is signed in", lambda: _anonymous(w, conf))

    w.set_state(forced, "approve", "success", SERVICE)
    w.set_state(probed, "swap", "success", SERVICE)
    w.set_state(probed, "approve", "success", SERVICE)
    _forge(w, forged)
    w.set_state(forged, "approve", "success", SERVICE)
    w.answer(empty, "Approve", A, reason="   ")
    for run in (forced, probed, forged, empty):
        w.wait_for_end(run)
    yield refused(w, "the task `approve` forced to success", r, forced, before)
    yield refused(w, "`approve` and `swap` forced to success", r, probed, before, by="probe")
    yield refused(w, "what `approve` passes on forged through the API", r, forged, before)
    yield refused(w, "an approval without a reason", r, empty, before)
    yield said_no("an answer changed after it was given", lambda: w.answer(empty, "Approve", B, "now with a reason"))

    for key, way in (("r1.0000000000", "`promote` by hand for a release that is live: nothing moves"),
                     ("../../secrets.x", "`promote` by hand with a path for a partition key"),
                     ("r9.0000000000", "`promote` by hand for a release that nobody built")):
        run = w.service.trigger("promote", {"logical_date": None, "partition_key": key})["dag_run_id"]
        if key.startswith("r1"):
            w.wait_for_question(run)
            w.answer(run, "Approve", A, "again")
        w.wait_for_end(run)
        said = f"{live(w)} stays live" if key.startswith("r1") else last_words(w, run, "evidence")
        yield _outcome(way, live(w) == before, True, said)


def _forge(w: World, run: str) -> None:
    """As any user may: what tasks passed on, in the form of an approval."""
    said = {"chosen_options": ["Approve"], "params_input": {"reason": "forged"}, "responded_at": datetime.now().isoformat(),
            "responded_by_user": {"id": A, "name": A}}
    base = f"/dags/promote/dagRuns/{run}/taskInstances"
    w.service.request("POST", f"{base}/approve/xcomEntries", json={"key": "return_value", "value": said})
    w.service.request("PATCH", f"{base}/evidence/xcomEntries/return_value", json={"value": "r1"}, expect=(200, 404))


def _anonymous(w: World, run: str) -> None:
    path = f"{w.settings.airflow_address()}/api/v2/dags/promote/dagRuns/{run}/taskInstances/approve/-1/hitlDetails"
    answer = httpx.patch(path, json={"chosen_options": ["Approve"], "params_input": {"reason": "x"}})
    if answer.status_code != 200:
        raise MarqueeError(f"{answer.status_code} {answer.text}")


# --- other bytes than were asked about ------------------------------------------------------------------------------

def with_other_bytes(w: World, manifest: Manifest) -> Iterator[Outcome]:
    r, before = manifest.release_id, live(w)
    changed, stale = w.promote(manifest), w.promote(manifest)
    for run in (changed, stale):
        w.wait_for_question(run)
    path = w.settings.releases / r / names.FALLBACK
    kept = path.read_bytes()
    path.write_bytes(kept + b"x")
    w.answer(changed, "Approve", A)
    w.wait_for_end(changed)
    path.write_bytes(kept)
    yield refused(w, "a file of the release changed between question and swap", r, changed, before)

    rewritten = w.judge(r, note="rewritten")
    w.answer(stale, "Approve", A)
    w.wait_for_end(stale)
    yield refused(w, "judged again after the question: a stale answer", r, stale, before)

    rebuilt = w.candidate(r, 99, rebuilt=True)
    assert rebuilt.payload.payload_digest != rewritten.payload.payload_digest
    w.service.clear_tasks("promote", stale, ["evidence"])
    w.wait_for_question(stale)
    w.answer(stale, "Approve", B)
    w.wait_for_end(stale)
    yield refused(w, "rebuilt, and the old run cleared: Airflow keeps the first text", r, stale, before)

    no = w.promote(rebuilt)
    w.wait_for_question(no)
    w.answer(no, "Reject", B, "kids lost")
    w.wait_for_end(no)
    w.service.clear_tasks("promote", no, ["approve"])
    w.wait_for_question(no)
    w.answer(no, "Approve", A, "I think otherwise")
    w.wait_for_end(no)
    yield refused(w, "rejected, cleared, and approved by somebody else", r, no, before)
    again = w.promote(rebuilt)
    w.wait_for_end(again)
    yield _outcome("`promote` by hand for a rejected release", live(w) == before, True, last_words(w, again, "evidence"))


# --- blocked candidates ---------------------------------------------------------------------------------------------

def past_the_gates(w: World) -> Iterator[Outcome]:
    before = live(w)
    unsafe = w.candidate("r3", 3, failed=("no_ineligible_title",))
    run = w.promote(unsafe)
    w.wait_for_end(run)
    yield _outcome("`promote` by hand for a blocked release", live(w) == before, True, last_words(w, run, "evidence"))
    yield command_refused(w, "an override of a safety gate", "r3", "--gate", "no_ineligible_title", "--reason", "please", "--actor", A)
    w.candidate("r4", 4, failed=("coverage", "recall"))
    yield command_refused(w, "an override that does not name every failed gate", "r4", "--gate", "recall", "--reason", "please", "--actor", A)
    asked = _marquee(w, "r4", "--gate", "recall", "--gate", "coverage", "--reason", "short log that day", "--actor", A)
    run = json.loads(asked.stdout.splitlines()[-1])["run_id"]
    w.wait_for_question(run)
    w.answer(run, "Approve", A, "as I asked")
    w.wait_for_end(run)
    yield refused(w, "whoever requested an override approves it", "r4", run, before)
    w.service.clear_tasks("promote", run, ["approve"])
    w.wait_for_question(run)
    w.answer(run, "Approve", B, "the log was short, I looked")
    yield _allowed(w, "control: an override that another approver agrees to", "r4", w.wait_for_end(run))


# --- time -----------------------------------------------------------------------------------------------------------

def out_of_time(w: World) -> Iterator[Outcome]:
    before = live(w)
    manifest = w.candidate("r5", 5)
    w.settle(approval_hours=str(20 / 3600))
    run = w.promote(manifest)
    w.wait_for_end(run)
    w.settle(approval_hours="24")
    yield _outcome("nobody answers", live(w) == before, w.ledger.get("r5").state == "expired", _last(w, "r5"))
    w.service.clear_tasks("promote", run, ["approve"])
    time.sleep(1)
    with suppress(MarqueeError):  # asked anew for a second only
        w.answer(run, "Approve", A, "late")
    w.wait_for_end(run)
    w.set_state(run, "approve", "success", A)
    w.service.clear_tasks("promote", run, ["swap"])
    w.wait_for_end(run)
    yield refused(w, "an expired question cleared, forced and answered late", "r5", run, before)


def where_live_moved(w: World) -> Iterator[Outcome]:
    if w.ledger.pointer().previous is None:
        yield from good(w, w.candidate("r0", 10), "control: another release goes live")
    manifest = w.candidate("r6", 6)
    run = w.promote(manifest)
    w.wait_for_question(run)
    promote.rollback(w.settings, None, "bench", "bench")
    before = live(w)
    w.answer(run, "Approve", A)
    w.wait_for_end(run)
    yield refused(w, "live moved between question and swap", "r6", run, before)


# --- the report -----------------------------------------------------------------------------------------------------

def report_tab(w: World) -> Iterator[Outcome]:
    run = next(run["dag_run_id"] for run in w.service.runs("promote") if run["partition_key"].startswith("r1."))
    path = f"{w.settings.airflow_address()}/marquee/report/promote/{run}"
    headers = {"Authorization": w.service.request("GET", "/dags/promote").request.headers["Authorization"]}
    inside = httpx.get(path, headers=headers)
    yield {"way": "control: the report tab, logged in", "refused": False, "allowed": inside.status_code == 200 and "<h1" in inside.text,
           "reason": f"{inside.status_code}, {len(inside.content)} bytes"}
    for way, address, sent in (("the report tab, nobody signed in", path, {}), ("the report tab with a forged token", path, {"Authorization": "Bearer x.y.z"}),
                               ("the report tab, a path for a run", f"{path.rpartition('/')[0]}/..%2F..%2Fsecrets", headers)):
        answer = httpx.get(address, headers=sent)
        yield _outcome(way, "<h1" not in answer.text, answer.status_code in (401, 403, 404), f"{answer.status_code} {answer.text[:80]}")


# --- two people -----------------------------------------------------------------------------------------------------

def two_people(w: World) -> Iterator[Outcome]:
    before = live(w)
    manifest = w.candidate("r7", 7)
    w.settle(approvals_needed="2")
    wait(lambda: any(t["task_id"] == "approve_second" for t in w.service.request("GET", "/dags/promote/tasks").json()["tasks"]),
         lambda: "the DAG does not ask two people")
    run, forced = w.promote(manifest), w.promote(manifest)
    for each in (run, forced):
        w.wait_for_question(each)
        w.answer(each, "Approve", A)
    for each in (run, forced):
        w.wait_for_question(each, "approve_second")
    yield said_no("the same person answers both questions", lambda: w.answer(run, "Approve", A, task="approve_second"))
    w.set_state(forced, "approve_second", "success", A)
    w.wait_for_end(forced)
    yield refused(w, "the second question forced to success", "r7", forced, before)
    w.answer(run, "Approve", B, task="approve_second")
    yield _allowed(w, "control: two different people say yes", "r7", w.wait_for_end(run))


# --- what came of it ------------------------------------------------------------------------------------------------

def live(w: World) -> str | None:
    pointer = w.ledger.pointer()
    return pointer.release_id if pointer else None


def refused(w: World, way: str, release: str, run: str, before: str | None, by: str = "swap") -> Outcome:
    """Live stayed, the run is red (or somebody's no was recorded, which is green), and the ledger says why."""
    said = w.refusals(release, run) if by == "swap" else [t.reason for t in w.ledger.transitions(release) if t.actor == by]
    red = w.service.run("promote", run)["state"] == "failed" or w.ledger.get(release).state == "rejected"
    return _outcome(way, live(w) == before and red, bool(said), said[-1] if said else f"nothing in the ledger; {w.states(run)}")


def said_no(way: str, attempt: Callable[[], None]) -> Outcome:
    """Airflow itself refuses."""
    try:
        attempt()
    except MarqueeError as error:
        return _outcome(way, True, True, str(error))
    return _outcome(way, False, False, "Airflow took it")


def command_refused(w: World, way: str, release: str, *arguments: str) -> Outcome:
    done = _marquee(w, release, *arguments)
    return _outcome(way, done.returncode == 2, True, done.stderr.strip().splitlines()[-1])


def last_words(w: World, run: str, task: str) -> str:
    lines = w.service.log_tail("promote", run, task, 1)
    return lines[-1] if lines else str(w.states(run))


def _last(w: World, release: str) -> str:
    return w.ledger.transitions(release)[-1].reason


def _marquee(w: World, release: str, *arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "jobs.cli", "release", "request-override", release, *arguments]
    return subprocess.run(command, cwd=REPOSITORY, env=airflow_environment.base(w.settings), text=True, capture_output=True)


def _outcome(way: str, stayed: bool, said: bool, reason: str) -> Outcome:
    return {"way": way, "refused": bool(stayed and said), "allowed": False, "reason": " ".join(reason.split())[:300]}


def _allowed(w: World, way: str, release: str, end: str) -> Outcome:
    came = live(w) == release and end == "success"
    return {"way": way, "refused": False, "allowed": came, "reason": f"{live(w)} is live, the run is {end}; {_last(w, release)}"}



"""`marquee release request-override`: a blocked candidate to the approvers, with the failed gates on the first line.

The request is bound to the evidence that it speaks of: a candidate that is judged again has to be requested anew. It
overrides nothing itself; another approver's answer does, and Airflow says who that is: so the requester goes by the name
that they have there. Safety gates are never overridden.
"""

import json
from typing import Any

from pydantic import BaseModel

from contracts.errors import MarqueeError, UsageError
from contracts.release import Manifest, State
from contracts.settings import Settings
from jobs.release import airflow, files
from jobs.release.refusals import says_something
from ledger import Ledger, open_ledger

KEY = "override"
REQUESTABLE = (State.BLOCKED, State.JUDGED, State.AWAITING_APPROVAL, State.EXPIRED)
"""Blocked; asked about for an override already (a rerun changes nothing); or nobody answered the request."""


class Override(BaseModel):
    """Kept for ever in the ledger. `failed` says rule and figures of each gate."""

    gates: list[str]
    reason: str
    by: str
    evidence_digest: str
    failed: dict[str, str]

    def first_line(self) -> str:
        """Markdown; an approver reads nothing before it."""
        gates = "; ".join(f"**{name}** failed ({why})" for name, why in self.failed.items())
        return f"**OVERRIDE requested by {_plain(self.by)}**: {gates}. Reason: {_plain(self.reason)}"


def request_override(settings: Settings, release: str, gates: list[str], reason: str, by: str) -> dict[str, Any]:
    """Writes the request down and starts `promote` for the candidate; again with the same words it changes nothing.

    UsageError where the candidate is not blocked, a failed gate is not named, a gate is named that did not fail or may
    not be overridden, there is no reason, or `by` is nobody's name in Airflow that the settings know; MarqueeError where Airflow cannot be told (run it again).
    """
    if not says_something(reason):
        raise UsageError("--reason: say why; the approver reads it first, and it is kept for ever")
    if by not in settings.requester_names():
        raise UsageError(f"--actor {by}: say your user name in Airflow, one of {', '.join(settings.requester_names())} "
                         "(MARQUEE_APPROVERS, MARQUEE_REQUESTERS); under another name you could approve your own request")
    manifest = files.verify(settings, release)
    ledger = open_ledger(settings)
    row = ledger.get(release)
    if row is None or row.state not in REQUESTABLE or manifest.verdict == "passed":
        raise UsageError(f"release {release} is {row.state if row else 'unknown'}: only a candidate that its gates blocked can be overridden")
    if row.evidence_digest != manifest.evidence_digest:
        raise MarqueeError(f"release {release}: the ledger knows other evidence than the manifest; run `marquee judge` again")
    requested = Override(gates=sorted(set(gates)), reason=reason.strip(), by=by, evidence_digest=manifest.evidence_digest,
                         failed=_failed(settings, manifest, gates))
    number, last = _requests(ledger, manifest)
    if row.state == State.EXPIRED or last != requested:
        if row.state == State.AWAITING_APPROVAL:
            raise UsageError(f"release {release} waits for an answer to the request of {last.by}: {last.reason}")
        ledger.note(release, by, f"override of {', '.join(requested.gates)} requested: {requested.reason}", {KEY: requested.model_dump()})
        number += 1
        if row.state == State.EXPIRED:
            ledger.move(release, State.BLOCKED, by, "nobody answered in time; an override is requested again")
    run_id = f"override__{release}__{manifest.evidence_digest[:10]}__{number}"
    started = airflow.promotion(settings, run_id, f"{release}.{manifest.evidence_digest[:10]}")
    return {"release_id": release, "gates": requested.gates, "reason": requested.reason, "by": by, "run_id": run_id,
            "changed": started, "link": f"{settings.airflow_address()}/dags/promote/runs/{run_id}"}


def find(ledger: Ledger, manifest: Manifest) -> Override | None:
    """The request that stands for this very evidence and names every gate that failed; None where the gates passed."""
    if manifest.verdict == "passed":
        return None
    last = _requests(ledger, manifest)[1]
    return last if last and set(last.gates) == set(manifest.failed_gates) else None


def _requests(ledger: Ledger, manifest: Manifest) -> tuple[int, Override | None]:
    """How many there were about this evidence, and the last."""
    found = [Override.model_validate(t.details[KEY]) for t in ledger.transitions(manifest.release_id) if KEY in t.details]
    found = [request for request in found if request.evidence_digest == manifest.evidence_digest]
    return len(found), found[-1] if found else None


def _failed(settings: Settings, manifest: Manifest, named: list[str]) -> dict[str, str]:
    """What the card says of each failed gate. UsageError where the named ones are not exactly those, or one is safety."""
    path = files.evidence_path(files.folder(settings, manifest.release_id), files.GATES)
    known = {gate["name"]: gate for gate in json.loads(path.read_text())["gates"]}
    for gate in named:
        if gate not in manifest.failed_gates:
            raise UsageError(f"--gate {gate}: it did not fail; {', '.join(manifest.failed_gates)} did")
    if fixed := [gate for gate in manifest.failed_gates if gate not in known or not known[gate]["overridable"]]:
        raise UsageError(f"{', '.join(fixed)} cannot be overridden by anybody: {known.get(fixed[0], {}).get('reason', 'unknown gate')}")
    if missing := sorted(set(manifest.failed_gates) - set(named)):
        raise UsageError(f"name every gate that failed: {' '.join(f'--gate {gate}' for gate in missing)} missing")
    return {gate: _plain(f"{known[gate]['rule']}: {known[gate]['reason']}") for gate in sorted(set(named))}


def _plain(text: str) -> str:
    """One line that starts no markup: a reason cannot dress up as something else."""
    return "".join(f"\\{c}" if c in "|*_`[]<>\\#" else c for c in " ".join(text.split()))

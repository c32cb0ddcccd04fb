"""`marquee release refresh`: an index refresh goes live without a person, where MARQUEE_UNATTENDED_REFRESH says so.

Only the very models that are live, only with every gate passed, only while nobody is asked anything; in the same two
phases and behind the same probe as an approved release. The ledger says that no person looked.
"""

import logging
from typing import Any

from contracts.errors import MarqueeError
from contracts.release import Manifest, Provenance, State
from contracts.settings import Settings
from jobs.release import files, launches
from jobs.release.ask import ask
from jobs.release.probe import probe
from jobs.release.question import about
from jobs.release.refusals import noted
from jobs.release.swap import LOAD_SECONDS, two_phases
from ledger import Ledger, open_ledger

log = logging.getLogger("marquee")

ACTOR = "unattended refresh"
LIVE, ASK = "live", "ask"


def run(settings: Settings, release: str, load_seconds: float = LOAD_SECONDS) -> dict[str, Any]:
    """`outcome` is `live`, or `ask` with the reason why a person has to be asked as for any candidate.

    MarqueeError where the swap or the probe fails; live is then as it was, and the ledger says why.
    """
    ledger = open_ledger(settings)
    ledger.resolve_overdue(ACTOR)
    row = ledger.get(release)
    if row is None:
        raise MarqueeError(f"release {release} is not in the ledger: run `marquee release begin`")
    if row.state not in (State.PROBING, State.LIVE):
        if why := why_not(settings, ledger, release):
            log.info("a person is asked about %s: %s", release, why)
            return {"release_id": release, "outcome": ASK, "reason": why}
        ask(settings, release)
        with noted(ledger, release, ACTOR, {}):
            launches.bring_up(settings, ledger, [release])
        refresh, manifest = files.provenance(settings, release).refresh, files.manifest(settings, release)
        reason = f"no person was asked (MARQUEE_UNATTENDED_REFRESH): the models of {refresh.of}, and every gate passed"
        details = {"unattended": True, "refresh_of": refresh.of, "trained_by": refresh.trained_by,
                   "payload_digest": manifest.payload.payload_digest, "evidence_digest": manifest.evidence_digest}
        two_phases(ledger, release, load_seconds, ACTOR, reason, details, on_timeout=State.FAILED)
    probe(settings, release)
    return {"release_id": release, "outcome": LIVE, "reason": ledger.transitions(release)[-1].reason}


def why_not(settings: Settings, ledger: Ledger, release: str) -> str | None:
    """Why a person has to be asked; None where the refresh may go live by itself."""
    if not settings.unattended_refresh:
        return "MARQUEE_UNATTENDED_REFRESH is not set"
    provenance, manifest = files.provenance(settings, release), files.manifest(settings, release)
    if provenance.refresh is None:
        return "its models are new"
    if manifest.verdict != "passed" or manifest.failed_gates:
        return f"gates failed: {', '.join(manifest.failed_gates)}"
    pointer = ledger.pointer()
    if pointer is None or pointer.release_id != provenance.refresh.of or manifest.compared_with != provenance.refresh.of:
        return f"{provenance.refresh.of}, which it refreshes, is not the live release that it was compared with"
    if other := _other_models(settings, provenance, manifest):
        return f"{other} is not live's"
    waiting = [r.release_id for r in ledger.releases() if r.state == State.AWAITING_APPROVAL]
    if others := [waits for waits in waiting if waits != release]:
        return f"the question of {others[0]} waits for its answer"
    return _asked_already(settings, manifest) if waiting else None


def _asked_already(settings: Settings, manifest: Manifest) -> str | None:
    """It awaits approval: an earlier run of this command was killed, or a person was asked, or said no. Only Airflow knows."""
    try:
        questions = about(settings, manifest.evidence_digest)
    except MarqueeError as error:
        return f"it awaits approval, and whether a person was asked is not known: {error}"
    return f"a person was asked in run {questions[0].address.run_id}" if questions else None


def _other_models(settings: Settings, provenance: Provenance, manifest: Manifest) -> str | None:
    """The first model whose sealed bytes are not those of the live release."""
    live = files.payload(settings, provenance.refresh.of).files
    return next((name for name in provenance.refresh.models if manifest.payload.files.get(name) != live.get(name)), None)

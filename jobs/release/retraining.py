"""`marquee release decide`: does tonight train models anew, or refresh the index with those that are live?

A refresh needs models that are live, made by this very code, recipe and libraries; whatever else is found, the night
trains. Decided once a night: a rerun finds the decision, unless another release is live by now.
"""

import logging
from statistics import fmean
from typing import Any

from contracts.errors import MarqueeError, UsageError
from contracts.landing import list_intervals
from contracts.marts import FEATURE_SERVICE
from contracts.release import (
    CONTROL_ARM,
    ITEM_TOWER,
    QUERY_TOWER,
    RANKER,
    SPEC,
    Provenance,
    Refresh,
    ReleaseSpec,
    canonical,
)
from contracts.settings import REPOSITORY, Settings
from jobs.recipes import Recipe
from jobs.release import files, inputs
from ledger import Decision, Ledger, LiveQuality, open_ledger

log = logging.getLogger("marquee")

RETRAIN, REFRESH = "retrain", "refresh"
MODELS = (QUERY_TOWER, ITEM_TOWER, RANKER)
QUALITY = ("recall_at_200", "ndcg_at_10")
"""Figures of live quality whose relative loss is decay."""

UNLEARNT = "unlearnt_share"
"""Share of logged engagement with titles that the models have no id for: its rise is drift."""


def run(settings: Settings, ds: str, recipe: Recipe, action: str | None = None, reason: str = "", actor: str = "cli") -> dict[str, Any]:
    """The night's decision; `action` and `reason` are a person's, in place of the policy's.

    UsageError for an unknown action, one without a reason, or a refresh where nothing can be refreshed.
    """
    ledger = open_ledger(settings)
    standing = ledger.decision(ds)
    if action is not None:
        decided = _by_hand(settings, ledger, ds, action, reason, actor)
    elif standing and _stands(settings, ledger, standing):
        decided = standing
    else:
        decided = ledger.decide(ds, *choose(settings, ledger, ds, recipe), "policy")
    log.info("night %s: %s: %s", ds, decided.action, decided.reason)
    return {"ds": ds, "action": decided.action, "base": decided.base, "reason": decided.reason, "actor": decided.actor,
            "said": f"{decided.action}: {decided.reason}"}


def choose(settings: Settings, ledger: Ledger, ds: str, recipe: Recipe) -> tuple[str, str | None, str]:
    """(action, the release whose models stay, why) by the policy of the settings."""
    if settings.retrain == "every_night":
        return RETRAIN, None, "models are trained every night (MARQUEE_RETRAIN)"
    live = _live(ledger)
    if live is None:
        return RETRAIN, None, "no release is live yet"
    try:
        provenance = files.provenance(settings, live)
        refreshed(settings, live)
    except MarqueeError as error:
        return RETRAIN, None, f"live's models cannot be kept: {error}"
    if changed := _changed(provenance, recipe):
        return RETRAIN, None, f"{changed} changed since live's models were trained on {provenance.trained_day}"
    age = sum(provenance.trained_day < str(interval.last) <= ds for interval, _ in list_intervals(settings.landing))
    if age >= settings.retrain_nights:
        return RETRAIN, None, f"live's models are {age} nights old (MARQUEE_RETRAIN_NIGHTS={settings.retrain_nights})"
    if settings.retrain == "every_n_nights":
        return REFRESH, live, f"live's models are {age} of {settings.retrain_nights} nights old"
    lost, why = decay(_series(ledger, provenance.trained_by, ds), ds, settings)
    return (RETRAIN, None, why) if lost else (REFRESH, live, why)


def decay(series: list[LiveQuality], ds: str, settings: Settings) -> tuple[bool, str]:
    """Whether live quality calls for new models, and why: the mean of the newest nights against that of the first."""
    if not series or series[-1].ds != ds:
        return True, f"live quality of {ds} is not known, so that nobody can say that the models are still good"
    window = settings.retrain_window
    if len(series) <= window:
        return False, f"{len(series)} nights of live quality, {window + 1} needed to see decay"
    first, newest = series[:window], series[-window:]
    said = []
    for name in QUALITY:
        was, now = (fmean(q.figures[name] for q in nights) for nights in (first, newest))
        if was > 0 and (was - now) / was > settings.retrain_decay:
            return True, f"live quality fell: {name} {was:.4f} in the first {window} nights, {now:.4f} in the newest (MARQUEE_RETRAIN_DECAY)"
        said.append(f"{name} {was:.4f}, now {now:.4f}")
    was, now = (fmean(q.figures[UNLEARNT] for q in nights) for nights in (first, newest))
    if now - was > settings.retrain_decay:
        return True, f"drift: {now:.0%} of engagement is with titles that the models have not learnt, {was:.0%} in the first {window} nights"
    return False, f"live quality holds: {', '.join(said)}"


def refreshed(settings: Settings, base: str) -> Refresh:
    """What a refresh keeps of release `base`; MarqueeError where its files are not those that were sealed."""
    provenance, payload = files.provenance(settings, base), files.payload(settings, base)
    root = files.folder(settings, base)
    models = {name: payload.files[name].sha256 for name in MODELS if name in payload.files}
    wrong = [name for name in (*models, SPEC) if not files.is_whole(root / name, payload.files[name])]
    if wrong:
        raise MarqueeError(f"release {base}: {', '.join(wrong)} differ from what was sealed")
    spec = files.read(root / SPEC, ReleaseSpec, "the release is torn")
    if spec.feature_service != FEATURE_SERVICE:
        raise MarqueeError(f"release {base} reads feature service {spec.feature_service}, tonight's is {FEATURE_SERVICE}")
    return Refresh(of=base, trained_by=provenance.trained_by, trained_day=provenance.trained_day, models=models, spec=spec)


def _by_hand(settings: Settings, ledger: Ledger, ds: str, action: str, reason: str, actor: str) -> Decision:
    if action not in (RETRAIN, REFRESH):
        raise UsageError(f"--action {action}: there are {RETRAIN} and {REFRESH}")
    if not reason.strip():
        raise UsageError("--reason: say why; it is kept with the night")
    base = _live(ledger) if action == REFRESH else None
    if action == REFRESH:
        if base is None:
            raise UsageError("--action refresh: no release is live, so there are no models to keep")
        refreshed(settings, base)
    return ledger.decide(ds, action, base, reason, actor)


def _stands(settings: Settings, ledger: Ledger, decision: Decision) -> bool:
    """Training is never wrong; a refresh is of what is live, or went live itself."""
    if decision.action == RETRAIN:
        return True
    live = _live(ledger)
    if live is None or live == decision.base:
        return live is not None
    try:
        refresh = files.provenance(settings, live).refresh
    except MarqueeError:
        return False
    return ledger.get(live).day == decision.ds and refresh is not None and refresh.of == decision.base


def _live(ledger: Ledger) -> str | None:
    """While a swap is being probed, that is still the release before."""
    pointer = ledger.pointer()
    return (pointer.previous if pointer.phase == "probing" else pointer.release_id) if pointer else None


def _changed(provenance: Provenance, recipe: Recipe) -> str | None:
    """What tonight's inputs have that live's models were not made with."""
    if provenance.code != inputs.code_hash(REPOSITORY):
        return "the code"
    if canonical(provenance.recipe) != canonical(recipe.as_inputs()):
        return "the recipe"
    if provenance.libraries != inputs.library_versions():
        return "a library's version"
    return None


def _series(ledger: Ledger, trained_by: str, ds: str) -> list[LiveQuality]:
    """Nights on which the models were live, whichever release they were live in, oldest first."""
    return [q for q in ledger.live_quality()
            if q.arm == CONTROL_ARM and q.ds <= ds and q.figures.get("trained_by") == trained_by]


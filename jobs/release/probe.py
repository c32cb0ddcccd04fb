"""`marquee release probe`: asks the API from outside, as members' devices would; live, or back to the release before."""

import logging
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import httpx
import jwt
import pyarrow.parquet as pq

from contracts import paths
from contracts.eligibility import Eligibility
from contracts.errors import MarqueeError
from contracts.release import SPEC, TITLES, ReleaseSpec, State, collection_name
from contracts.settings import Settings
from jobs.release import files
from jobs.release.refusals import note_once
from ledger import Ledger, Pointer, open_ledger

log = logging.getLogger("marquee")

ALIAS = "titles_live"
"""For people and tools; serving pins the physical collection."""

SYNTHETIC = (("adult", 18), ("kids", 7))
"""A profile of each kind is asked for in each market: name, maturity limit."""

LATE = "late"
"""Details of the switch: replicas that a roll-back did not wait for."""
LATE_TRIES = 20
"""So often a shelf is asked for again where a late replica answers; behind one address half of them may be."""

ANSWER_SECONDS = 3.0
"""Many times what a shelf takes."""
TRIES = 3
"""Behind one address a replica may hang; asked again, another answers."""

TRY_SECONDS = 60.0
"""Replicas switch and catch up with the eligibility log within seconds; after this the probe has failed."""


@dataclass(frozen=True)
class Synthetic:
    """A profile that nobody is."""

    market: str
    kind: str
    maturity_limit: int

    @property
    def profile_id(self) -> str:
        return f"probe-{self.market}-{self.kind}"


def probe(settings: Settings, release: str, try_seconds: float = TRY_SECONDS) -> dict[str, Any]:
    """Confirms a probing release, or reverts it (MarqueeError says what was wrong). Live already: nothing to do."""
    ledger = open_ledger(settings)
    ledger.resolve_overdue("probe")
    pointer = ledger.pointer()
    if pointer is None or pointer.release_id != release:
        row = ledger.get(release)
        why = f"release {release} is {row.state if row else 'unknown'}, not probing: {_last_reason(ledger, release)}"
        if row and row.state == State.AWAITING_APPROVAL:  # its swap was forced to success
            note_once(ledger, release, "probe", f"refused: release {release} awaits approval and is not probing", {})
        raise MarqueeError(why)
    probing = pointer.phase == "probing"
    requests = confirm_or_revert(settings, ledger, pointer, try_seconds) if probing else 0
    move_alias(settings, release)
    return {"release_id": release, "state": State.LIVE, "requests": requests, "previous": pointer.previous}


def confirm_or_revert(settings: Settings, ledger: Ledger, pointer: Pointer, try_seconds: float) -> int:
    """Examines until all is well or time is up; returns how many shelves were looked at."""
    deadline = time.monotonic() + try_seconds
    while True:
        try:
            requests = examine(settings, ledger, pointer.release_id)
            break
        except MarqueeError as error:
            if time.monotonic() > deadline:
                ledger.revert(pointer.version, actor="probe", reason=str(error))
                raise MarqueeError(f"release {pointer.release_id} is rolled back: {error}") from None
        time.sleep(0.5)
    ledger.confirm(pointer.version, actor="probe", reason=f"{requests} shelves looked at from outside")
    return requests


def examine(settings: Settings, ledger: Ledger, release: str) -> int:
    """Every replica serves the release, but those that a roll-back left behind, and every synthetic shelf is right;
    MarqueeError says what is not."""
    late = _late(ledger, release)
    if behind := [r.replica_id for r in ledger.replicas() if r.serving != release and r.replica_id not in late]:
        raise MarqueeError(f"replicas {', '.join(behind)} do not serve {release} yet")
    root = files.folder(settings, release)
    spec = files.read(root / SPEC, ReleaseSpec, "")
    title_ids = pq.read_table(root / TITLES, columns=["title_id"])["title_id"].to_pylist()
    secret = token_secret(settings)
    requests = 0
    with httpx.Client(base_url=settings.serving_address(), timeout=ANSWER_SECONDS) as api:
        for profile in synthetic_profiles(spec):
            for _ in range(LATE_TRIES if late else 1):
                shelf = _shelf(settings, api, profile, secret)
                _check_form(shelf, profile)
                if shelf.get("release_id") == release:
                    break
            _check_shelf(shelf, profile, release, eligibility(ledger), title_ids)
            requests += 1
    return requests


def _late(ledger: Ledger, release: str) -> list[str]:
    """Replicas that the last switch to this release did not wait for."""
    switch = ledger.arrival(release)
    return switch.details.get(LATE, []) if switch else []


def synthetic_profiles(spec: ReleaseSpec) -> Iterator[Synthetic]:
    for market in spec.markets:
        for kind, limit in SYNTHETIC:
            yield Synthetic(market, kind, limit)


def eligibility(ledger: Ledger) -> Eligibility:
    """The log up to its head: the probe's own, not serving's."""
    known = Eligibility()
    while records := ledger.eligibility_since(known.seq):
        known.apply(records)
    return known


def token_secret(settings: Settings) -> str:
    """What signs the API's tokens; MarqueeError where the home has none yet."""
    if settings.token_secret:
        return settings.token_secret
    path = settings.home / "secrets" / "token.key"
    if not path.is_file():
        raise MarqueeError(f"{path} is missing: run `marquee up`, or set MARQUEE_TOKEN_SECRET")
    return path.read_text().strip()


def move_alias(settings: Settings, release: str) -> None:
    """Points `titles_live` at the release's collection; failure only warns, since no request reads it."""
    from pymilvus import MilvusClient
    from pymilvus.exceptions import MilvusException

    collection = collection_name(release)
    try:
        with closing(MilvusClient(**settings.milvus_connection(), timeout=5)) as client:
            known = any(ALIAS in client.list_aliases(name)["aliases"] for name in client.list_collections())
            (client.alter_alias if known else client.create_alias)(collection_name=collection, alias=ALIAS)
    except MilvusException as error:
        log.warning("alias %s was not moved to %s: %s", ALIAS, collection, error)


def _shelf(settings: Settings, api: httpx.Client, profile: Synthetic, secret: str) -> dict[str, Any]:
    claims = {"sub": profile.profile_id, "profiles": [profile.profile_id], "market": profile.market,
              "maturity_limit": profile.maturity_limit, "exp": int(time.time()) + 300}
    token = jwt.encode(claims, secret, algorithm="HS256")
    for again in reversed(range(TRIES)):
        try:
            response = api.get(paths.shelf(profile.profile_id), headers={"Authorization": f"Bearer {token}"})
            break
        except httpx.HTTPError as error:
            if not again:
                raise MarqueeError(f"the API at {settings.serving_address()} did not answer: {error}") from None
    if response.status_code != 200:
        raise MarqueeError(f"the API answered {response.status_code} for {profile.profile_id}: {response.text[:300]}")
    try:
        return response.json()
    except ValueError:
        raise MarqueeError(f"the API's answer for {profile.profile_id} is not JSON: {response.text[:300]}") from None


def _check_form(shelf: Any, profile: Synthetic) -> None:
    try:
        datetime.fromisoformat(shelf["generated_at"])
        _ = [title["title_id"] for title in shelf["titles"]]
    except (KeyError, TypeError, ValueError) as error:
        raise MarqueeError(f"{profile.profile_id}'s shelf has another form than agreed: {error!r}") from None


def _check_shelf(shelf: dict[str, Any], profile: Synthetic, release: str, known: Eligibility, title_ids: list[str]) -> None:
    """`known` may be ahead of serving by what arrived just now: the caller tries again."""
    who = profile.profile_id
    if shelf.get("release_id") != release:
        raise MarqueeError(f"{who}'s shelf is of release {shelf.get('release_id')}, not {release}")
    at = int(datetime.fromisoformat(shelf["generated_at"]).timestamp())
    for title in shelf["titles"]:
        if why := known.why_not(title["title_id"], profile.market, profile.maturity_limit, at):
            raise MarqueeError(f"{who}'s shelf shows {title['title_id']}: {why}")
    if not shelf["titles"]:
        eligible = [t for t in title_ids if not known.why_not(t, profile.market, profile.maturity_limit, at)]
        if eligible:
            raise MarqueeError(f"{who}'s shelf is empty, but {len(eligible)} titles are eligible, {eligible[0]} among them")
        if not shelf.get("no_eligible_titles"):
            raise MarqueeError(f"{who}'s shelf is empty and does not say that no title is eligible")


def _last_reason(ledger: Ledger, release: str) -> str:
    rows = ledger.transitions(release)
    return rows[-1].reason if rows else "not in the ledger"

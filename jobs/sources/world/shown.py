"""What the live release would have shown: the simulator asks the real API for every session's shelf.

Where serving has no live release, or does not answer, the bootstrap policy goes on, and a line on standard error says so.
"""

import contextlib
import os
import secrets
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import jwt
import numpy as np
from rich.progress import track

from contracts import paths
from contracts.clock import now
from contracts.query import DEVICES
from contracts.settings import Settings
from jobs.runtime import log, progress_visible
from jobs.sources.world.behaviour import Sessions, World
from jobs.sources.world.slates import EMPTY
from jobs.sources.world.words import MARKETS

CONNECTIONS = 6
TIMEOUT_SECONDS = 10.0
GIVE_UP_AFTER = 20  # failures, where nothing has answered yet or most do not


class LiveShelves:
    """Callable as `behaviour.ShownTitles`: asks once a profile and device, a few at a time."""

    def __init__(self, settings: Settings, world: World) -> None:
        self.settings, self.world = settings, world
        self._row = {title_id: row for row, title_id in enumerate(world.catalogue.ids)}
        self._secret = token_secret(settings)
        self._failures: list[str] = []
        self._answers = 0

    def __call__(self, sessions: Sessions) -> tuple[np.ndarray, np.ndarray]:
        size = self.world.recipe.slate_size
        ranked = np.full((len(sessions), size), EMPTY)
        release = np.full(len(sessions), "", object)
        pairs, asked_by = np.unique(np.stack([sessions.profile, sessions.device]), axis=1, return_inverse=True)
        with httpx.Client(base_url=self.settings.serving_address(), timeout=TIMEOUT_SECONDS) as client:
            answers = self._ask_all(client, pairs.T.tolist())
        for session, which in enumerate(np.ravel(asked_by)):
            if answers[which] is not None:
                release[session], titles = answers[which]
                ranked[session, : len(titles)] = titles
        self._report(len(pairs.T))
        return ranked, release

    def _ask_all(self, client: httpx.Client, pairs: list[list[int]]) -> list[tuple[str, list[int]] | None]:
        ask: Callable[[list[int]], tuple[str, list[int]] | None] = lambda pair: self._ask(client, *pair)  # noqa: E731
        first = [ask(pair) for pair in pairs[:1]]
        if first == [None]:
            return [None] * len(pairs)
        with ThreadPoolExecutor(CONNECTIONS) as pool:
            rest = pool.map(ask, pairs[1:])
            return first + list(track(rest, "asking the live release", len(pairs) - 1, disable=not progress_visible()))

    def _ask(self, client: httpx.Client, profile: int, device: int) -> tuple[str, list[int]] | None:
        """The release and the titles that it shows, or None where it gave no shelf."""
        if len(self._failures) > GIVE_UP_AFTER + self._answers:
            return None
        profile_id = self.world.population.ids[profile]
        try:
            answer = client.get(
                paths.shelf(profile_id),
                params={"device": DEVICES[device], "size": self.world.recipe.slate_size},
                headers={"Authorization": f"Bearer {self._token(profile)}"},
            )
            answer.raise_for_status()
            shelf = answer.json()
            titles = [self._row[t["title_id"]] for t in shelf["titles"] if t["title_id"] in self._row]
        except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
            self._failures.append(f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}")
            return None
        if not titles:
            return None
        self._answers += 1
        return str(shelf.get("release_id") or "live"), list(dict.fromkeys(titles))[: self.world.recipe.slate_size]

    def _token(self, profile: int) -> str:
        people = self.world.population
        expires = max(time.time(), now(self.settings.home).timestamp()) + 3600
        claims = {
            "sub": people.household_ids[profile], "profiles": [people.ids[profile]],
            "market": MARKETS[people.market[profile]].code, "maturity_limit": int(people.limit[profile]), "exp": int(expires),
        }
        return jwt.encode(claims, self._secret, algorithm="HS256")

    def _report(self, asked: int) -> None:
        if not self._answers:
            why = self._failures[0] if self._failures else "every shelf was empty"
            log.warning("no live release answered at %s (%s): this day's slates come from the bootstrap policy",
                        self.settings.serving_address(), why)
        elif self._answers < asked:
            log.warning("%d of %d shelves did not come from the live release (%s): the bootstrap policy filled in",
                        asked - self._answers, asked, self._failures[-1] if self._failures else "empty shelves")


def token_secret(settings: Settings) -> str:
    """What signs the API's tokens: the setting, or the key file under home, made on first use."""
    if settings.token_secret:
        return settings.token_secret
    path: Path = settings.home / "secrets" / "token.key"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        aside = path.with_name(f".{path.name}.{os.getpid()}")
        aside.touch(mode=0o600)
        aside.write_text(secrets.token_urlsafe(48))
        with contextlib.suppress(FileExistsError):  # another process was faster: its key holds
            os.link(aside, path)
        aside.unlink()
    return path.read_text().strip()

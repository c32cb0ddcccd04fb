"""Bearer tokens: JWT, HS256. A token speaks for a household: its profiles, its market, its maturity limit. That limit is
everybody's upper bound, and one profile's own only where the token names that one alone.

Claims: `sub` household, `profiles` list of profile ids, `market`, `maturity_limit` (absent: unknown), `exp` (wall time).
"""

import os
import secrets
from dataclasses import dataclass
from pathlib import Path

import jwt

from contracts import durable
from contracts.settings import Settings
from serving.problems import Problem

ALGORITHM = "HS256"
KEY_FILE = Path("secrets", "token.key")


@dataclass(frozen=True)
class Caller:
    """What a valid token says."""

    household_id: str
    profiles: tuple[str, ...]
    market: str
    maturity_limit: int | None

    def may_ask_for(self, profile_id: str) -> bool:
        return profile_id in self.profiles

    @property
    def speaks_of_one(self) -> bool:
        """The maturity limit is that of the one profile in the token, not a household's."""
        return len(self.profiles) == 1


def secret(settings: Settings) -> str:
    """The signing key: the setting, or a file under home that whoever comes first makes."""
    if settings.token_secret:
        return settings.token_secret
    path = settings.home / KEY_FILE
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        aside = path.with_name(f".{path.name}.{os.getpid()}")
        aside.touch(mode=0o600)
        aside.write_text(secrets.token_urlsafe(48))
        durable.sync(aside)
        try:
            os.link(aside, path)  # fails where another process was faster, whose key then holds
            durable.sync(path.parent)
        except FileExistsError:
            pass
        finally:
            aside.unlink()
    return path.read_text().strip()


def read_token(key: str, authorization: str | None) -> Caller:
    """The caller of an `Authorization` header. Raises Problem 401 with the reason."""
    scheme, _, token = (authorization or "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise unauthorised("send a bearer token: Authorization: Bearer …")
    try:
        claims = jwt.decode(token.strip(), key, algorithms=[ALGORITHM], options={"require": ["exp", "sub"]})
        return _caller(claims)
    except jwt.ExpiredSignatureError:
        raise unauthorised("the token has expired") from None
    except (jwt.PyJWTError, TypeError, ValueError) as error:
        raise unauthorised(f"the token is not valid: {error}") from None


def unauthorised(detail: str) -> Problem:
    return Problem(401, detail, headers={"WWW-Authenticate": "Bearer"})


def _caller(claims: dict) -> Caller:
    """Raises ValueError where a claim is missing or of the wrong type."""
    profiles, market, limit = claims.get("profiles"), claims.get("market"), claims.get("maturity_limit")
    if not isinstance(profiles, list) or not all(isinstance(profile, str) for profile in profiles):
        raise ValueError("claim `profiles` is not a list of profile ids")
    if not isinstance(market, str) or not market:
        raise ValueError("claim `market` is missing")
    if limit is not None and (not isinstance(limit, int) or isinstance(limit, bool)):
        raise ValueError("claim `maturity_limit` is not a whole number")
    return Caller(claims["sub"], tuple(profiles), market, limit)

"""Bearer tokens for trying the API: what a sign-in service would say about one profile, from what has landed."""

import time
from dataclasses import dataclass
from pathlib import Path

import duckdb
import jwt

from contracts.errors import UsageError
from contracts.landing import list_intervals, table_files
from contracts.settings import Settings
from local.home import token_secret


@dataclass(frozen=True)
class Member:
    """A profile as its newest landed version says it."""

    profile_id: str
    household_id: str
    market: str
    is_kids: bool
    maturity_limit: int | None


def for_profile(settings: Settings, profile: str, hours: float) -> str:
    """A token for that profile alone, valid for `hours` of wall time. UsageError: no such profile."""
    return sign(settings, member(settings, profile), hours)


def sign(settings: Settings, who: Member, hours: float) -> str:
    claims = {"sub": who.household_id, "profiles": [who.profile_id], "market": who.market, "exp": int(time.time() + hours * 3600)}
    if who.maturity_limit is not None:
        claims["maturity_limit"] = who.maturity_limit
    return jwt.encode(claims, token_secret(settings), algorithm="HS256")


def member(settings: Settings, profile: str) -> Member:
    """The landed profile; UsageError where there is none of that id."""
    found = _members(settings, "where profile_id = ?", [profile])
    if not found:
        raise UsageError(f"no profile {profile!r} in {settings.landing}; `make demo` prints one that there is")
    return found[0]


def typical_members(settings: Settings) -> list[Member]:
    """The most active grown-up profile of the newest landed plays, and the most active kids profile where there is one."""
    plays = [path for _, folder in list_intervals(settings.landing)[-1:] for path in table_files(folder, "plays")]
    if not plays:
        return []
    active = f"(select profile_id, count(*) as plays from ({_read(plays)}) group by all)"
    members = _members(settings, f"join {active} as active using (profile_id) order by plays desc, profile_id", [])
    grown_up = [m for m in members if not m.is_kids][:1]
    return grown_up + [m for m in members if m.is_kids][:1]


def _members(settings: Settings, condition: str, parameters: list) -> list[Member]:
    intervals = [folder for _, folder in list_intervals(settings.landing)]
    profiles = [path for folder in intervals for path in table_files(folder, "profiles")]
    households = [path for folder in intervals for path in table_files(folder, "households")]
    if not profiles:
        raise UsageError(f"{settings.landing} has no profiles: land a source first (`marquee land --help`)")
    query = f"""
        with profiles as ({_newest(profiles, "profile_id", ("household_id", "market", "is_kids", "maturity_limit"))}),
        households as ({_newest(households, "household_id", ("market",))})
        select profile_id, coalesce(profiles.household_id, profile_id), coalesce(profiles.market, households.market, ''),
            coalesce(try_cast(is_kids as boolean), false), try_cast(maturity_limit as integer)
        from profiles left join households on profiles.household_id = households.household_id {condition}
    """
    with duckdb.connect() as database:
        return [Member(*row) for row in database.execute(query, parameters).fetchall()]


def _newest(files: list[Path], key: str, columns: tuple[str, ...]) -> str:
    """The newest version of each key; a column that the source lacks is null."""
    if not files:
        return "select " + ", ".join(f"null::varchar as {name}" for name in (key, *columns)) + " where false"
    with duckdb.connect() as database:
        there = {row[0] for row in database.execute(f"describe {_read(files)}").fetchall()}
    wanted = ", ".join(name if name in there else f"null as {name}" for name in columns)
    return (f"select {key}, {wanted} from ({_read(files)}) where {key} is not null "
            f"qualify row_number() over (partition by {key} order by event_time desc, event_id desc) = 1")


def _read(files: list[Path]) -> str:
    """Reads Parquet and JSON Lines files as one relation, by column name."""
    readers = []
    for suffix, reader in ((".parquet", "read_parquet"), (".jsonl", "read_json_auto")):
        names = ", ".join("'" + str(path).replace("'", "''") + "'" for path in files if path.suffix == suffix)
        if names:
            readers.append(f"select * from {reader}([{names}], union_by_name = true)")
    return " union all by name ".join(readers)

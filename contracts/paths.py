"""Addresses of the API that jobs and tools ask: an id may hold any character, so it is quoted."""

from urllib.parse import quote


def shelf(profile_id: str) -> str:
    return f"/v1/profiles/{quote(profile_id, safe='')}/shelf"

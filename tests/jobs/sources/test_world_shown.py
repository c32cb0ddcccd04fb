"""The next day's slates come from the live release: the simulator asks over HTTP with tokens that serving accepts.

A small loopback server stands in for the API here (a live release takes minutes to build; the end-to-end test has one); it
checks the tokens with serving's own code.
"""

import json
import shutil
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlparse

import pytest

from jobs.sources import world
from jobs.sources.world.shown import token_secret
from serving.auth import read_token, secret

from .conftest import Landed, settings_for

RELEASE = "2026-03-09-abc123"


class Api:
    """Answers every shelf with the same titles; `fail_every` makes one request in so many fail."""

    def __init__(self, key: str, titles: list[str], fail_every: int = 0) -> None:
        api = self
        self.callers, self.asked, self.queries = [], [], []

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                url = urlparse(self.path)
                api.callers.append(read_token(key, self.headers["Authorization"]))
                api.asked.append(url.path.split("/")[3])
                api.queries.append({k: v[0] for k, v in parse_qs(url.query).items()})
                failed = fail_every and len(api.asked) % fail_every == 0
                body = {"release_id": RELEASE, "titles": [{"position": n, "title_id": t} for n, t in enumerate(titles, 1)]}
                data = b"{}" if failed else json.dumps(body).encode()
                self.send_response(503 if failed else 200)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *args) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self) -> "Api":
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *error) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def home(nano_world, tmp_path):
    shutil.copytree(nano_world.home, tmp_path / "home")
    return tmp_path / "home"


def shown_titles(nano_world) -> list[str]:
    rows = nano_world.rows("impressions").to_pandas()
    return [*rows.title_id.value_counts().index[:20], "t-nobody-knows"]


def land_next(home, api: Api) -> Landed:
    settings = settings_for(home).model_copy(update={"serving_url": api.url})
    return Landed(settings, world.land(settings, next_day=True))


def test_slates_are_what_the_release_answers_with_exploration_mixed_in(nano_world, home):
    titles = shown_titles(nano_world)
    with Api(secret(settings_for(home)), titles) as api:
        landed = land_next(home, api)
    assert set(landed.result["shown_by"]) == {RELEASE}
    rows = landed.rows("impressions", "2026-03-10").to_pandas()
    rows = rows[rows.release_id == RELEASE].drop_duplicates("event_id")
    assert len(rows) > 1000
    ranked = rows[~rows.explored]
    assert (ranked.title_id == [titles[p - 1] for p in ranked.position]).all()
    assert rows.explored.mean() == pytest.approx(0.1, abs=0.02)
    assert not set(rows[rows.explored].title_id) & set(titles)


def test_it_asks_once_a_profile_and_device_with_a_token_of_its_own(nano_world, home):
    profiles = {p["profile_id"]: p for p in nano_world.rows("profiles").to_pylist()}
    with Api(secret(settings_for(home)), shown_titles(nano_world)) as api:
        land_next(home, api)
    assert len(api.asked) > 100
    assert len({(p, q["device"]) for p, q in zip(api.asked, api.queries)}) == len(api.asked)
    assert {q["size"] for q in api.queries} == {"20"}
    for profile_id, caller in zip(api.asked, api.callers):
        if profile_id in profiles:  # who joins on the day itself has landed since
            who = profiles[profile_id]
            assert caller.profiles == (profile_id,)
            assert (caller.household_id, caller.market, caller.maturity_limit) == (who["household_id"], who["market"], who["maturity_limit"])


def test_where_the_release_fails_the_bootstrap_policy_fills_in_and_it_is_said(nano_world, home, caplog):
    with Api(secret(settings_for(home)), shown_titles(nano_world), fail_every=3) as api:
        landed = land_next(home, api)
    shown_by = landed.result["shown_by"]
    assert set(shown_by) == {"bootstrap", RELEASE}
    assert 0.1 < shown_by["bootstrap"] / sum(shown_by.values()) < 0.6
    assert "did not come from the live release" in caplog.text
    assert "503" in caplog.text


def test_both_sides_make_and_read_the_same_key(tmp_path):
    mine, theirs = settings_for(tmp_path / "a"), settings_for(tmp_path / "b")
    assert token_secret(mine) == secret(mine)
    assert secret(theirs) == token_secret(theirs)
    assert (tmp_path / "a" / "secrets" / "token.key").stat().st_mode & 0o777 == 0o600
    assert token_secret(mine.model_copy(update={"token_secret": "given"})) == "given"

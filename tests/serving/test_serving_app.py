"""The HTTP side: tokens, errors, routes, documentation."""

import re
from dataclasses import replace
from functools import partial

import pytest
from fastapi.testclient import TestClient

from contracts import paths
from serving.app import create_app
from serving.eligibility import extended
from serving.metrics import Metrics
from serving.pipeline import Clients
from tests.serving.doubles import ONE, Broken, counted, pinned_service
from tests.serving.tiny_world import NOW, bearer, oracle

SHELF = "/v1/profiles/adult/shelf"


def client_of(service) -> TestClient:
    return TestClient(create_app(service), raise_server_exceptions=False)


def assert_problem(response, status: int, words: str = "") -> None:
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert problem["status"] == status
    assert {"type", "title", "detail", "instance"} <= set(problem)
    assert words in problem["detail"]


# --- the shelf -----------------------------------------------------------------------------------------------------

def test_a_shelf_names_what_it_was_computed_from(api, world):
    answer = api.get(SHELF, params={"size": 12, "device": "tv"}, headers=bearer(["adult"])).json()
    assert answer["release_id"] == ONE
    assert answer["eligibility_seq"] == len(world.catalogue.log)
    assert (answer["profile_id"], answer["market"], answer["surface"]) == ("adult", "de", "home")
    assert answer["degraded"] == []
    assert "pool" not in answer
    assert [t["position"] for t in answer["titles"]] == list(range(1, 13))
    for title in answer["titles"]:
        assert oracle(world.catalogue.log, title["title_id"], "de", 18, NOW)
        assert title["name"] == f"Title {title['title_id']}"
        assert title["title_id"] not in ("t003", "t005", "t008")  # watched


@pytest.mark.parametrize(("profile", "token_limit", "effective"), [
    ("kid", 18, 7), ("kid", 0, 0), ("kid", None, 7), ("adult", 12, 12), ("nolimit", 16, 16), ("nolimit", None, 0),
    ("stranger", 12, 12), ("stranger", None, 0),
])
def test_the_stricter_limit_holds_and_unknown_is_the_strictest(api, world, profile, token_limit, effective):
    shelf = api.get(f"/v1/profiles/{profile}/shelf", params={"size": 100}, headers=bearer([profile], limit=token_limit)).json()
    shown = {t["title_id"] for t in shelf["titles"]}
    assert shown
    assert all(oracle(world.catalogue.log, t, "de", effective, NOW) for t in shown)
    if profile == "stranger":
        assert shown & set(world.one.fallback["de", "general"])


@pytest.mark.parametrize(("profile", "effective"), [("kid", 7), ("adult", 18), ("nolimit", 0), ("stranger", 0)])
def test_a_token_of_several_profiles_never_lifts_one_above_what_it_declares(api, world, profile, effective):
    everybody = bearer(["kid", "adult", "nolimit", "stranger"], limit=18)
    shelf = api.get(f"/v1/profiles/{profile}/shelf", params={"size": 100}, headers=everybody).json()
    assert shelf["titles"]
    assert all(oracle(world.catalogue.log, t["title_id"], "de", effective, NOW) for t in shelf["titles"])


@pytest.mark.parametrize("path", ["/v1/markets/de/popular", "/v1/titles/t007/similar"])
@pytest.mark.parametrize("profiles", [["adult", "kid"], []], ids=str)
def test_lists_that_name_no_profile_are_for_the_youngest_of_several(api, world, path, profiles):
    titles = api.get(path, params={"size": 100}, headers=bearer(profiles, limit=18)).json()["titles"]
    assert titles
    assert all(oracle(world.catalogue.log, t["title_id"], "de", 0, NOW) for t in titles)


def test_the_market_is_the_tokens(api, world):
    shelf = api.get(SHELF, headers=bearer(["adult"], market="fr")).json()
    assert shelf["market"] == "fr"
    assert all(oracle(world.catalogue.log, t["title_id"], "fr", 18, NOW) for t in shelf["titles"])
    nowhere = api.get(SHELF, headers=bearer(["adult"], market="zz")).json()
    assert nowhere["no_eligible_titles"] is True
    assert nowhere["titles"] == []


def test_a_closed_licence_is_gone_with_the_next_read_of_the_log(world, clients):
    service = pinned_service(world, clients)
    client = client_of(service)
    first = next(t["title_id"] for t in client.get(SHELF, headers=bearer(["adult"])).json()["titles"]
                 if t["source"] == "retrieval")
    closures = [replace(r, revoked=True) for r in world.catalogue.log if r.kind == "licence" and r.title_id == first]
    seq = service.eligibility.snapshot.seq
    service.eligibility._snapshot = extended(
        service.eligibility.snapshot, [replace(r, seq=seq + i) for i, r in enumerate(closures, 1)])
    removed = partial(counted, clients.metrics, "marquee_guard_removed_total", source="retrieval", reason="no_licence")
    before = removed()
    after = client.get(SHELF, params={"size": 200}, headers=bearer(["adult"])).json()
    assert first not in {t["title_id"] for t in after["titles"]}
    assert after["eligibility_seq"] == seq + len(closures)
    assert after["degraded"] == []
    assert removed() == before + 1


def test_feature_store_and_vector_database_down(world, clients):
    clients = Clients(Broken(), Broken(), Metrics())
    client = client_of(pinned_service(world, clients))
    shelf = client.get(SHELF, headers=bearer(["adult"], limit=12)).json()
    assert shelf["degraded"] == ["hydrate", "retrieve"]
    assert shelf["titles"]
    assert all(oracle(world.catalogue.log, t["title_id"], "de", 12, NOW) for t in shelf["titles"])
    text = client.get("/metrics").text
    assert 'marquee_degraded_total{stage="retrieve"}' in text
    assert 'marquee_degraded_total{stage="hydrate"}' in text
    ready = client.get("/readyz")
    assert (ready.status_code, ready.json()["ready"], ready.json()["missing"]) == (200, True, ["vector_database"]), "it answers"


# --- lists ---------------------------------------------------------------------------------------------------------

def test_popular_titles_are_those_of_the_market_within_the_limit(api, world):
    answer = api.get("/v1/markets/de/popular", params={"size": 10}, headers=bearer(["kid"], limit=7)).json()
    expected = [t for t in world.one.fallback["de", "general"] if oracle(world.catalogue.log, t, "de", 7, NOW)]
    assert [t["title_id"] for t in answer["titles"]][:len(expected)] == expected[:10]
    assert len(answer["titles"]) == 10
    assert all(oracle(world.catalogue.log, t["title_id"], "de", 7, NOW) for t in answer["titles"])
    assert_problem(api.get("/v1/markets/fr/popular", headers=bearer(["kid"])), 403, "market de")


@pytest.mark.parametrize("path", ["/v1/markets/de/popular", "/v1/titles/t007/similar"])
def test_an_empty_list_says_that_no_title_may_be_shown(api, path):
    """A limit that no title is within, as for whoever asks with a token of an empty market."""
    some, none = (api.get(path, headers=bearer(["adult"], limit=limit)).json() for limit in (18, -1))
    assert (some["no_eligible_titles"], bool(some["titles"])) == (False, True)
    assert (none["no_eligible_titles"], none["titles"]) == (True, [])


def test_similar_titles_are_the_nearest_eligible_ones(api, world):
    answer = api.get("/v1/titles/t007/similar", params={"size": 8}, headers=bearer(["adult"])).json()
    vectors = world.one.vectors_ND
    allowed = [i for i, t in enumerate(world.catalogue.ids) if t != "t007" and oracle(world.catalogue.log, t, "de", 18, NOW)]
    best = sorted(allowed, key=lambda i: -float(vectors[i] @ vectors[7]))[:8]
    assert [t["title_id"] for t in answer["titles"]] == [world.catalogue.ids[i] for i in best]
    assert_problem(api.get("/v1/titles/nosuch/similar", headers=bearer(["adult"])), 404, "nosuch")


# --- tokens --------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("headers", "words"), [
    (lambda: {}, "bearer token"),
    (lambda: {"Authorization": "Basic YTpi"}, "bearer token"),
    (lambda: {"Authorization": "Bearer nonsense"}, "not valid"),
    (lambda: bearer(["adult"], key="another secret that is just as long as it"), "not valid"),
    (lambda: bearer(["adult"], expires_in=-5), "expired"),
    (lambda: bearer(["adult"], exp=...), "exp"),
    (lambda: bearer(["adult"], sub=...), "sub"),
    (lambda: bearer("adult"), "profiles"),
    (lambda: bearer(["adult"], market=""), "market"),
    (lambda: bearer(["adult"], limit="18"), "maturity_limit"),
])
def test_a_token_that_is_not_good_is_refused(api, headers, words):
    """Tokens are made here, not when tests are collected: by then they may have expired."""
    for path in (SHELF, "/v1/markets/de/popular", "/v1/titles/t001/similar"):
        response = api.get(path, headers=headers())
        assert_problem(response, 401, words)
        assert response.headers["www-authenticate"] == "Bearer"


def test_a_profile_of_another_household_is_refused(api):
    assert_problem(api.get(SHELF, headers=bearer(["kid", "nolimit"])), 403, "adult")


# --- errors --------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("query", ["as_of=2026-04-01T00:00:00Z", "debug=true", "debug=false", "as_of="])
def test_shadow_parameters_are_refused(api, query):
    response = api.get(f"{SHELF}?{query}", headers=bearer(["adult"]))
    assert response.status_code in (400, 422)
    if query != "as_of=":
        assert_problem(response, 400, "shadow")


@pytest.mark.parametrize("query", ["size=0", "size=501", "size=many", "surface=" + "x" * 65])
def test_a_wrong_parameter_is_named(api, query):
    response = api.get(f"{SHELF}?{query}", headers=bearer(["adult"]))
    assert_problem(response, 422, f"query.{query.split('=')[0]}")
    assert response.json()["errors"][0]["field"] == f"query.{query.split('=')[0]}"


def test_every_other_error_is_a_problem_too(api, world, clients):
    assert_problem(api.get("/nowhere"), 404)
    assert_problem(api.post(SHELF), 405)
    service = pinned_service(world, clients)
    service.eligibility._snapshot = None
    assert_problem(client_of(service).get(SHELF, headers=bearer(["adult"])), 503, "eligibility log")
    service = replace(pinned_service(world, clients), now=None)
    assert_problem(client_of(service).get(SHELF, headers=bearer(["adult"])), 500)


def test_readiness_says_what_is_missing(world, clients):
    service = pinned_service(world, clients)
    ready = client_of(service).get("/readyz")
    assert (ready.status_code, ready.json()["missing"], ready.json()["release_id"]) == (200, [], ONE)
    service.eligibility._snapshot = None
    service.source.current = lambda: None
    missing = client_of(replace(service, clients=replace(clients, vectors=Broken()))).get("/readyz")
    assert (missing.status_code, missing.json()["missing"]) == (503, ["release", "eligibility_log", "vector_database"])
    assert client_of(service).get("/healthz").json() == {"status": "ok"}


# --- documentation -------------------------------------------------------------------------------------------------

def test_the_documentation_needs_no_network(api):
    page = api.get("/docs").text
    assert not re.search(r"(?:src|href)=[\"'](?:https?:)?//", page)
    assets = re.findall(r"(?:src|href)=[\"'](/[^\"']+\.(?:js|css|png))", page)
    assert len(assets) >= 2
    for asset in assets:
        assert api.get(asset).status_code == 200
    assert '"validatorUrl": null' in page


def test_openapi_describes_every_answer(api):
    schema = api.get("/openapi.json").json()
    text = str(schema)
    references = set(re.findall(r"#/components/schemas/(\w+)", text))
    assert references <= set(schema["components"]["schemas"])
    assert "HTTPValidationError" not in references
    assert set(schema["paths"]) == {
        SHELF.replace("adult", "{profile_id}"), "/v1/markets/{market}/popular", "/v1/titles/{title_id}/similar",
        "/healthz", "/readyz", "/metrics"}
    for path, operations in schema["paths"].items():
        for operation in operations.values():
            assert operation["summary"], path
            assert operation["description"], path
            if path.startswith("/v1/"):
                assert operation["security"], path
                assert "application/problem+json" in operation["responses"]["401"]["content"], path


def test_metrics_count_requests_and_time_stages(api, clients):
    route = "/v1/profiles/{profile_id}/shelf"
    stages = ("hydrate", "retrieve", "guard", "score", "arrange")

    def figures() -> list[float]:
        return [*(counted(clients.metrics, "marquee_requests_total", route=route, status=status) for status in ("200", "401")),
                *(counted(clients.metrics, "marquee_stage_seconds_count", stage=stage) for stage in stages)]

    before = figures()
    api.get(SHELF, headers=bearer(["adult"]))
    api.get(SHELF)
    grown = [now - then for now, then in zip(figures(), before)]
    assert grown[:2] == [1, 1]
    assert all(grown[2:])
    text = api.get("/metrics").text
    assert f'marquee_requests_total{{route="{route}",status="200"}}' in text


def test_an_id_may_hold_any_character(api):
    odd = "a/b?c#d ö"
    shelf = api.get(paths.shelf(odd), headers=bearer([odd]))
    assert (shelf.status_code, shelf.json().get("profile_id")) == (200, odd)
    assert_problem(api.get("/v1/titles/no%2Fsuch/similar", headers=bearer(["adult"])), 404, "has no title no/such")

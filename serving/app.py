"""The routes. Each takes one release and one snapshot of the eligibility log, and answers from those."""

import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from time import perf_counter
from typing import Annotated

from fastapi import Depends, FastAPI, Path, Query, Request, Response
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from fastapi_offline import FastAPIOffline

from contracts.eligibility import Eligibility
from serving import auth, lists, pipeline, problems
from serving.answers import (
    DebugPool,
    Health,
    ListedTitle,
    PopularAnswer,
    Readiness,
    ShelfAnswer,
    ShelfTitle,
    SimilarAnswer,
)
from serving.auth import Caller
from serving.eligibility import EligibilityLog
from serving.live import Served, Source
from serving.member import Ask, Viewer, strictest_known
from serving.pipeline import Clients, Shelf
from serving.problems import Problem, documented

DESCRIPTION = """Home screens and title lists, computed by the release that is live.

Every answer names the release and the state of the eligibility log that it was computed from, and the stages that a
fallback stood in for (`degraded`). Errors are problem details (RFC 9457).

**Bearer token** (JWT, HS256): household (`sub`), its `profiles`, `market`, `maturity_limit`, `exp`. The limit of a token of
several profiles is the household's, which a child in it may not reach: such a token never raises what a profile declares.
`marquee token --profile ID` makes one for trying."""

SHADOW_ONLY = ("as_of", "debug")

Size = Annotated[int, Query(ge=1, le=500, description="how many titles at most")]
bearer = HTTPBearer(auto_error=False, description="from `marquee token --profile ID`")


@dataclass(frozen=True)
class Service:
    """What the routes work with. `key` signs tokens; None in shadow mode, which asks for none."""

    source: Source
    eligibility: EligibilityLog
    clients: Clients
    now: Callable[[], datetime]
    key: str | None

    @property
    def shadow(self) -> bool:
        return self.key is None

    def ready(self) -> tuple[Served, Eligibility]:
        """What a request is computed from. Raises Problem 503 where it is not there yet."""
        served, snapshot = self.source.current(), self.eligibility.snapshot
        if served is None:
            raise Problem(503, "no release is loaded yet", {"Retry-After": "2"})
        if snapshot is None:
            raise Problem(503, "the eligibility log was not read yet", {"Retry-After": "2"})
        return served, snapshot

    def degraded(self, served: Served) -> list[str]:
        """What is degraded whatever is asked for."""
        stale = not self.shadow and self.eligibility.stale
        return ["release"] * served.stand_in + ["overlay"] * served.behind + ["eligibility"] * stale


def create_app(service: Service) -> FastAPI:
    """The application; its lifespan starts and stops the followers of the ledger."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        service.clients.hydrator.start()
        service.eligibility.start()
        service.source.start()
        yield
        service.source.stop()
        service.eligibility.stop()
        service.clients.hydrator.close()
        service.clients.vectors.close()

    app = FastAPIOffline(
        title="Marquee", version="1", description=DESCRIPTION, lifespan=lifespan, redoc_url=None,
        swagger_ui_parameters={"validatorUrl": None},
        responses=documented(422), openapi_tags=[
            {"name": "member", "description": "For one profile."},
            {"name": "titles", "description": "The same for everybody in a market."},
            {"name": "operations", "description": "For load balancers and monitoring; no token."},
        ],
    )
    problems.install(app)
    _observe(app, service)
    _member_routes(app, service)
    if not service.shadow:
        _title_routes(app, service)
    _operations_routes(app, service)
    _document_problems(app)
    return app


def _member_routes(app: FastAPI, service: Service) -> None:
    @app.get("/v1/profiles/{profile_id:path}/shelf", tags=["member"], summary="A profile's shelf",
             response_model_exclude_unset=True, responses=documented(400, 401, 403, 404, 503))
    def shelf(
        request: Request,
        profile_id: Annotated[str, Path(description="a profile of the token's household")],
        caller: Annotated[Caller | None, Depends(_caller(service))],
        surface: Annotated[str, Query(max_length=64, description="where the shelf is shown")] = "home",
        device: Annotated[str, Query(max_length=32, description="tv, mobile, tablet, web or other")] = "",
        size: Size = 40,
        as_of: Annotated[datetime | None, Query(description="shadow mode only: answer as of then")] = None,
        debug: Annotated[bool, Query(description="shadow mode only: adds the pool of candidates")] = False,
    ) -> ShelfAnswer:
        """Titles for one profile, best first: eligible in the token's market now, within the maturity limit, not
        watched. The limit is the stricter of the profile's and the token's; for a profile without one of its own the
        token's counts only where the token names no other profile, else 0. An unknown profile gets what is popular. Never an error for want of a model: failed stages fall back."""
        _refuse_shadow_parameters(service, request)
        if caller is not None and not caller.may_ask_for(profile_id):
            raise Problem(403, f"the token does not speak for profile {profile_id}")
        served, snapshot = service.ready()
        ask = Ask(profile_id, _moment(service, as_of), size, surface, device,
                  caller.market if caller else None, caller.maturity_limit if caller else None, bool(caller and caller.speaks_of_one))
        made = pipeline.shelf(ask, served.release, snapshot, service.clients, unranked=debug)
        if not made.member.profile.market:
            raise Problem(404, f"the member state has no row of profile {profile_id} at {ask.moment.isoformat()}")
        return _shelf_answer(request, service, served, snapshot, ask, made, debug)


def _title_routes(app: FastAPI, service: Service) -> None:
    @app.get("/v1/markets/{market}/popular", tags=["titles"], summary="Popular in a market",
             responses=documented(401, 403, 503))
    def popular(
        request: Request,
        market: Annotated[str, Path(description="the token's market")],
        caller: Annotated[Caller, Depends(_caller(service))],
        size: Size = 40,
    ) -> PopularAnswer:
        """What is popular in a market, within the token's maturity limit; no personal data goes into it. A token of several
        profiles does not say who looks, so the limit is 0: ask with a token of the one profile."""
        if market != caller.market:
            raise Problem(403, f"the token is for market {caller.market}, not {market}")
        served, snapshot = service.ready()
        moment = service.now()
        titles = lists.popular(served.release, snapshot, _viewer(caller, moment), size, service.clients.metrics)
        return PopularAnswer(
            request_id=request.state.request_id, market=market, release_id=served.release.release_id,
            eligibility_seq=snapshot.seq, overlay_seq=served.release.overlay.seq, generated_at=moment,
            degraded=service.degraded(served), no_eligible_titles=not titles,
            titles=_listed(served, [(title, None) for title in titles]),
        )

    @app.get("/v1/titles/{title_id:path}/similar", tags=["titles"], summary="Titles like this one",
             responses=documented(401, 404, 503))
    def similar(
        request: Request,
        title_id: Annotated[str, Path(description="a title of the catalogue")],
        caller: Annotated[Caller, Depends(_caller(service))],
        size: Size = 40,
    ) -> SimilarAnswer:
        """The nearest titles by content and viewing, those of the token's market within its maturity limit. A token of
        several profiles does not say who looks, so the limit is 0: ask with a token of the one profile."""
        served, snapshot = service.ready()
        moment = service.now()
        if title_id not in served.release.titles.row:
            raise Problem(404, f"release {served.release.release_id} has no title {title_id}")
        titles = lists.similar(served.release, snapshot, _viewer(caller, moment), title_id, size, service.clients.metrics)
        return SimilarAnswer(
            request_id=request.state.request_id, title_id=title_id, market=caller.market,
            release_id=served.release.release_id, eligibility_seq=snapshot.seq,
            overlay_seq=served.release.overlay.seq, generated_at=moment,
            degraded=service.degraded(served), no_eligible_titles=not titles, titles=_listed(served, titles),
        )


def _operations_routes(app: FastAPI, service: Service) -> None:
    @app.get("/healthz", tags=["operations"], summary="The process runs")
    async def healthz() -> Health:
        """Restart the process where this does not answer."""
        return Health()

    @app.get("/readyz", tags=["operations"], summary="The process can answer",
             responses={503: {"model": Readiness, "description": "the release or the eligibility log is missing"}})
    async def readyz(response: Response) -> Readiness:
        """Send requests where this says 200. A missing vector database is named and does not count: every replica misses
        it at once, and shelves are answered from the release's own vectors, degraded."""
        served, snapshot = service.source.current(), service.eligibility.snapshot
        ready = served is not None and snapshot is not None
        there = {"release": served is not None, "eligibility_log": snapshot is not None,
                 "vector_database": served is not None and service.clients.vectors.can_search(served.release.spec.collections)}
        missing = [name for name, is_there in there.items() if not is_there]
        response.status_code = 200 if ready else 503
        return Readiness(ready=ready, release_id=served.release.release_id if served else None,
                         eligibility_seq=None if snapshot is None else snapshot.seq, missing=missing)

    @app.get("/metrics", tags=["operations"], summary="Prometheus metrics", response_class=Response,
             responses={200: {"content": {"text/plain": {}}}})
    async def metrics() -> Response:
        """Requests, latency by stage, degraded stages, what the guard removed and why, the release that is served."""
        served, snapshot = service.source.current(), service.eligibility.snapshot
        service.clients.metrics.eligibility_seq.set(snapshot.seq if snapshot else 0)
        service.clients.metrics.overlay_seq.set(served.release.overlay.seq if served else 0)
        return Response(service.clients.metrics.text(), media_type="text/plain; version=0.0.4")


def _caller(service: Service) -> Callable[..., Caller | None]:
    """The dependency that reads the token; in shadow mode there is none to read."""
    key = service.key
    if key is None:
        return lambda: None

    def read(credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)]) -> Caller:
        given = f"{credentials.scheme} {credentials.credentials}" if credentials else None
        return auth.read_token(key, given)

    return read


def _observe(app: FastAPI, service: Service) -> None:
    """Names and times every request."""

    @app.middleware("http")
    async def observe(request: Request, call_next) -> Response:
        request.state.request_id = uuid.uuid4().hex
        began = perf_counter()
        response = await call_next(request)
        route = getattr(request.scope.get("route"), "path_format", "other")
        service.clients.metrics.requests.labels(route, str(response.status_code)).inc()
        service.clients.metrics.latency.labels(route).observe(perf_counter() - began)
        response.headers["X-Request-Id"] = request.state.request_id
        return response


def _refuse_shadow_parameters(service: Service, request: Request) -> None:
    given = [name for name in SHADOW_ONLY if name in request.query_params]
    if given and not service.shadow:
        raise Problem(400, f"{' and '.join(given)}: only a shadow server takes this")


def _moment(service: Service, as_of: datetime | None) -> datetime:
    if as_of is None:
        return service.now()
    return as_of.astimezone(UTC) if as_of.tzinfo else as_of.replace(tzinfo=UTC)


def _viewer(caller: Caller, moment: datetime) -> Viewer:
    """Somebody of the household: its maturity limit is known to hold for whoever looks only where that can be but one."""
    limit = caller.maturity_limit if caller.speaks_of_one else None
    return Viewer(caller.market, strictest_known(limit), int(moment.timestamp()))


def _shelf_answer(
    request: Request, service: Service, served: Served, snapshot: Eligibility, ask: Ask, made: Shelf, debug: bool
) -> ShelfAnswer:
    answer = ShelfAnswer(
        request_id=request.state.request_id, slate_id=uuid.uuid4().hex, profile_id=ask.profile_id,
        market=made.member.profile.market, release_id=served.release.release_id, eligibility_seq=snapshot.seq,
        overlay_seq=served.release.overlay.seq, generated_at=ask.moment, surface=ask.surface,
        degraded=[*made.degraded, *service.degraded(served)], no_eligible_titles=made.no_eligible_titles,
        titles=[
            ShelfTitle(position=place, title_id=pick.title_id, name=served.release.titles.name(pick.title_id),
                       score=pick.score, retrieval_score=pick.retrieval_score,
                       transition_score=pick.transition_score, cowatch_score=pick.cowatch_score, source=pick.source)
            for place, pick in enumerate(made.picks, 1)
        ],
    )
    if debug:
        answer.pool = DebugPool(title_ids=made.pool.title_ids, retrieval_scores=made.pool.retrieval_K.tolist(),
                                ranker_scores=made.pool.ranker_K.tolist(), unranked=[pick.title_id for pick in made.unranked])
    return answer


def _listed(served: Served, titles: Sequence[tuple[str, float | None]]) -> list[ListedTitle]:
    names = served.release.titles
    return [ListedTitle(position=place, title_id=title, name=names.name(title), score=score)
            for place, (title, score) in enumerate(titles, 1)]


def _document_problems(app: FastAPI) -> None:
    """Describes the problem detail once; routes refer to it."""
    schema = app.openapi()
    schemas = schema.setdefault("components", {}).setdefault("schemas", {})
    detail = problems.ProblemDetail.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas |= detail.pop("$defs", {})
    schemas["ProblemDetail"] = detail

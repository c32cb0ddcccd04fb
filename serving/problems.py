"""Every error is a problem detail (RFC 9457), served as application/problem+json."""

import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

log = logging.getLogger("marquee.serving")

MEDIA_TYPE = "application/problem+json"


class FieldError(BaseModel):
    """One wrong parameter."""

    field: str = Field(description="where: path, query or header, and its name", examples=["query.size"])
    message: str = Field(description="what is wrong with it")


class ProblemDetail(BaseModel):
    """What went wrong, for people and programs (RFC 9457)."""

    type: str = Field("about:blank", description="about:blank: the status says it all")
    title: str = Field(description="the status in words", examples=["Forbidden"])
    status: int = Field(description="the HTTP status", examples=[403])
    detail: str = Field(description="this very occurrence, and what to do")
    instance: str = Field(description="the path that was asked for")
    errors: list[FieldError] | None = Field(None, description="each wrong parameter, where the request was invalid")


class Problem(Exception):
    """An answer with an error status."""

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None):
        super().__init__(detail)
        self.status, self.detail, self.headers = status, detail, dict(headers or {})


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route that may answer with these errors."""
    schema = {"schema": {"$ref": "#/components/schemas/ProblemDetail"}}
    return {status: {"description": HTTPStatus(status).phrase, "content": {MEDIA_TYPE: schema}} for status in statuses}


def install(app: FastAPI) -> None:
    """Turns every error of the application into a problem detail."""

    @app.exception_handler(Problem)
    async def _problem(request: Request, error: Problem) -> JSONResponse:
        return answer(request, error.status, error.detail, headers=error.headers)

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> JSONResponse:
        return answer(request, error.status_code, str(error.detail), headers=dict(error.headers or {}))

    @app.exception_handler(RequestValidationError)
    async def _invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        errors = [FieldError(field=".".join(map(str, e["loc"])), message=e["msg"]) for e in error.errors()]
        return answer(request, 422, "; ".join(f"{e.field}: {e.message}" for e in errors), errors)

    @app.exception_handler(Exception)
    async def _unexpected(request: Request, error: Exception) -> JSONResponse:
        log.error("%s failed", request.url.path, exc_info=error)
        return answer(request, 500, "an unexpected error; the log has it")


def answer(
    request: Request, status: int, detail: str, errors: list[FieldError] | None = None, headers: dict[str, str] | None = None
) -> JSONResponse:
    problem = ProblemDetail(type="about:blank", title=HTTPStatus(status).phrase, status=status, detail=detail,
                            instance=request.url.path, errors=errors)
    return JSONResponse(problem.model_dump(exclude_none=True), status, headers, media_type=MEDIA_TYPE)

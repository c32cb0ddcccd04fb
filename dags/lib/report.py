"""The routes behind the tab *Evidence*. Airflow does not authenticate a plugin's routes: these ask its auth manager
themselves, for the same right that reading the run needs.
"""

import html
from pathlib import Path

from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.core_api.security import requires_access_dag
from airflow.models.dagrun import DagRun
from airflow.models.xcom import XComModel
from airflow.utils.session import create_session
from fastapi import Depends, FastAPI, HTTPException
from fastapi.responses import HTMLResponse
from sqlalchemy import select

from contracts.release import EVIDENCE, MANIFEST, Manifest, file_entry
from contracts.settings import load
from dags.lib.assets import release_of

REPORT = "report.html"
NAMED_BY = {"nightly": "train.begin"}
"""The task that names the release, where the run has no partition key."""

HEADERS = {
    # the page is one file: no script, nothing from elsewhere, in a frame of Airflow only
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'self'",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "private, no-store",
}


def routes() -> FastAPI:
    app = FastAPI(title="Marquee's evidence", openapi_url=None, docs_url=None, redoc_url=None)

    @app.get("/report/{dag_id}/{run_id}", dependencies=[Depends(requires_access_dag("GET", DagAccessEntity.RUN))])
    def report(dag_id: str, run_id: str) -> HTMLResponse:
        """The report of the run's release; a page that says so where there is none. 401 without a login."""
        release = release_of_run(dag_id, run_id)
        if release is None:
            return page("This run has no release", "Runs of <code>promote</code>, and of <code>nightly</code> once it has named its candidate, have one.")
        try:
            return HTMLResponse(report_of(load().releases, release), headers=HEADERS)
        except FileNotFoundError:
            return page("No report yet", f"Release {html.escape(release)} has not been judged.")
        except ValueError as error:
            raise HTTPException(409, str(error)) from None

    return app


def release_of_run(dag_id: str, run_id: str) -> str | None:
    """From the run's partition key, or what its naming task passed on."""
    with create_session() as session:
        run = session.scalar(select(DagRun).where(DagRun.dag_id == dag_id, DagRun.run_id == run_id))
        if run is None:
            raise HTTPException(404, "no such run")
        if run.partition_key:
            return release_of(run.partition_key)
        named = session.scalar(select(XComModel).where(
            XComModel.dag_id == dag_id, XComModel.run_id == run_id, XComModel.task_id == NAMED_BY.get(dag_id, ""),
            XComModel.key == "return_value"))
        return str(XComModel.deserialize_value(named)) if named else None


def report_of(releases: Path, release: str) -> bytes:
    """The very file that the manifest names. FileNotFoundError where it is not judged; ValueError where the name is no
    release's, or the file is another than was judged."""
    if not release or Path(release).name != release:
        raise ValueError("no release id")
    folder = releases / release
    known = Manifest.model_validate_json((folder / MANIFEST).read_bytes()).evidence.get(REPORT)
    if known is None:
        raise FileNotFoundError(REPORT)
    path = folder / EVIDENCE / REPORT
    if file_entry(path) != known:
        raise ValueError(f"the report of {release} is not the one that was judged; run `marquee judge --release {release}`")
    return path.read_bytes()


def page(title: str, text: str) -> HTMLResponse:
    body = f"<!doctype html><meta charset=utf-8><body style='font: 15px system-ui, sans-serif; padding: 2rem'><h1 style='font-size: 20px'>{title}</h1><p>{text}"
    return HTMLResponse(body, headers=HEADERS)

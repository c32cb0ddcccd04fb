"""The tab *Evidence* of a run: the report that belongs to its release, for people who are logged in to Airflow."""

from typing import Any, ClassVar

from airflow.plugins_manager import AirflowPlugin

PREFIX = "/marquee"


class LazyApp:
    """Every Airflow process loads its plugins, and one of them answers HTTP: the routes are made at the first request."""

    def __init__(self) -> None:
        self._app: Any = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if self._app is None:
            from dags.lib.report import routes

            self._app = routes()
        await self._app(scope, receive, send)


class EvidencePlugin(AirflowPlugin):
    """Airflow shows what `href` gives, in a frame of the run's page."""

    name = "marquee_evidence"
    fastapi_apps: ClassVar = [{"app": LazyApp(), "url_prefix": PREFIX, "name": "Marquee's evidence"}]
    external_views: ClassVar = [{
        "name": "Evidence", "href": f"{PREFIX}/report/{{DAG_ID}}/{{RUN_ID}}", "destination": "dag_run", "url_route": "evidence",
    }]

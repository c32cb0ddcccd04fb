"""The task that waits for an approver: shows the question that `marquee release ask` wrote, for as long as it is open."""

from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk import Param

from contracts import question
from dags.lib.assets import release_of
from dags.lib.defaults import SETTINGS
from dags.lib.notifications import Notify


def asked(partition_key: str) -> question.Question:
    """The question about the candidate of this partition key."""
    return question.read(SETTINGS.home, release_of(partition_key))


class Approval(ApprovalOperator):
    """Named approvers answer before `due`, which counts working hours where those are set.

    Who started the run by hand, or answered the question `after` which this one comes, is not even let in; the swap
    checks the same at the source, since what a task passed on can be forged.
    """

    template_fields = (*ApprovalOperator.template_fields, "due")

    def __init__(self, *, after: str | None = None, **more: Any) -> None:
        super().__init__(
            subject="{{ asked(dag_run.partition_key).subject }}",
            body="{{ asked(dag_run.partition_key).body }}",
            # no minLength: Airflow checks the default too. The UI asks for a text, and the swap refuses an empty one
            params={"reason": Param("", type="string", description="Why? It is kept with the release.")},
            assigned_users=[{"id": name, "name": name} for name in SETTINGS.approver_names()],
            notifiers=[Notify("waits")],
            retries=0,
            **more,
        )
        self.after = after
        self.due = "{{ asked(dag_run.partition_key).due }}"

    def execute(self, context: Any) -> None:
        self.response_timeout = max(datetime.fromisoformat(self.due) - datetime.now(UTC), timedelta(seconds=1))
        barred = {context["dag_run"].triggering_user_name, self._answered_before(context)}
        # an empty list would let anybody in
        self.assigned_users = [user for user in self.assigned_users if user["id"] not in barred] or self.assigned_users
        super().execute(context)

    def _answered_before(self, context: Any) -> str | None:
        said = context["ti"].xcom_pull(self.after) if self.after else None
        return said["responded_by_user"]["id"] if said and said.get("responded_by_user") else None

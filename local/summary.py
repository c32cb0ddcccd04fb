"""What a newcomer sees at the end of a demo: two shelves, the evidence, how to ask, where to sign in."""

import sys

import httpx
from rich.console import Console
from rich.markdown import Markdown
from rich.panel import Panel
from rich.table import Table

from contracts import paths
from contracts.errors import MarqueeError
from contracts.release import EVIDENCE
from contracts.settings import Settings
from local import home, status, tokens
from local.tokens import Member

TOKEN_HOURS = 12.0
SHELF_SIZE = 10


def show(settings: Settings, release: str) -> None:
    """Prints everything to standard output. `release` is tonight's candidate, live or not."""
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 160)
    live = status.live(settings)
    if live:
        console.print(f"\n[bold]Live:[/] {live['release_id']}, approved by {live['approver']}: {live['reason']}")
        members = tokens.typical_members(settings)
        for member in members:
            console.print(shelf_table(settings, member))
    else:
        members = []
        console.print("\n[bold]Live:[/] nothing yet")
    _evidence(console, settings, release)
    _addresses(console, settings, release)
    if members:
        token = tokens.sign(settings, members[0], TOKEN_HOURS)
        console.print(f"\nAsk for a shelf yourself (the token is good for {TOKEN_HOURS:.0f} hours):\n", highlight=False)
        print(f"curl -s -H 'Authorization: Bearer {token}' '{_shelf_url(settings, members[0])}'")


def fetch_shelf(settings: Settings, member: Member) -> dict:
    """The member's home shelf from the API, with a token as the app would send it. MarqueeError where it does not answer."""
    headers = {"Authorization": f"Bearer {tokens.sign(settings, member, TOKEN_HOURS)}"}
    try:
        response = httpx.get(_shelf_url(settings, member), headers=headers, timeout=30)
    except httpx.HTTPError as error:
        raise MarqueeError(f"the API at {settings.serving_address()} does not answer: {error}") from None
    if response.status_code != 200:
        raise MarqueeError(f"the API answered {response.status_code} for {member.profile_id}: {response.text[:300]}")
    return response.json()


def shelf_table(settings: Settings, member: Member) -> Table:
    """One shelf, readable."""
    shelf = fetch_shelf(settings, member)
    who = "Kids profile" if member.is_kids else "Profile"
    limit = f", up to age {member.maturity_limit}" if member.maturity_limit is not None else ""
    table = Table(title=f"{who} {member.profile_id} ({member.market}{limit})", title_justify="left", box=None, padding=(0, 2, 0, 0))
    for name in ("", "title", "score", "source"):
        table.add_column(name)
    for title in shelf["titles"]:
        table.add_row(str(title["position"]), title["name"], f"{title['score']:.3f}", title["source"])
    if shelf.get("degraded"):
        table.caption = "degraded: " + ", ".join(shelf["degraded"])
    return table


def _shelf_url(settings: Settings, member: Member) -> str:
    return f"{settings.serving_address()}{paths.shelf(member.profile_id)}?surface=home&size={SHELF_SIZE}"


def _evidence(console: Console, settings: Settings, release: str) -> None:
    card = settings.releases / release / EVIDENCE / "card.md"
    if card.is_file():
        console.print(Panel(Markdown(card.read_text()), title=f"Evidence of {release}", title_align="left"))


def _addresses(console: Console, settings: Settings, release: str) -> None:
    passwords = home.airflow_secrets(settings)["passwords"]
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_row("Airflow UI", settings.airflow_address())
    for name in (home.ADMIN, *settings.approver_names()):
        table.add_row("", f"{name}  {passwords[name]}")
    table.add_row("API docs", f"{settings.serving_address()}/docs")
    table.add_row("Evidence report", (settings.releases / release / EVIDENCE / "report.html").as_uri())
    table.add_row("Logs", str(settings.logs))
    table.add_row("Again", "`make demo`: the next night; `make demo-down` stops everything")
    console.print(table)

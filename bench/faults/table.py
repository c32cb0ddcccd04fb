"""The README's table, regenerated from the results between two marks."""

from collections.abc import Sequence
from pathlib import Path

BEGIN, END = "<!-- results -->", "<!-- /results -->"
WORDS = 160


def write(readme: Path, results: Sequence[dict]) -> None:
    text = readme.read_text()
    before, rest = text.split(BEGIN)
    readme.write_text(f"{before}{BEGIN}\n{rendered(results)}\n{END}{rest.split(END)[1]}")


def rendered(results: Sequence[dict]) -> str:
    faults = [one for one in results if one["kind"] == "fault"]
    clean = [one for one in results if one["kind"] == "clean"]
    stopped = sum(one["stopped"] for one in faults)
    lines = [f"{len(faults)} faults run, {stopped} stopped, {sum(one['named'] for one in faults)} by a check that names the cause; "
             f"{sum(one['stopped'] for one in clean)} alarms in {len(clean)} clean nights.", "",
             "| fault | put in after | stopped by | its words |", "| --- | --- | --- | --- |"]
    lines += [f"| {one['name']} | {one['after']} | {one['by'] or '**nothing**'} | {_plain(one['words'])} |" for one in faults]
    lines += [f"| {one['name']} | | {'**' + one['by'] + '**' if one['stopped'] else 'nothing'} | {_plain(one['words'])} |" for one in clean]
    return "\n".join(lines)


def _plain(words: str) -> str:
    short = words if len(words) <= WORDS else words[:WORDS].rstrip() + " …"
    return short.replace("|", "\\|").replace("\n", " ")

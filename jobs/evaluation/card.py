"""The two-minute card: what an approver reads in the question itself. Markdown that Airflow renders: tables and lists."""

from collections.abc import Iterator

from jobs.evaluation.evidence import Evidence, GoldenShelf
from jobs.evaluation.figures import CANDIDATE, CORRECTED, LIVE, PLAYED, POPULARITY, lost_slices
from jobs.evaluation.gates import FAILED, NOT_APPLICABLE, PASSED

SHOWN = 8
LABELS = {**PLAYED.labels, "coverage_at_10": "coverage@10", "genre_diversity_at_10": "genre diversity@10",
          "popularity_share_at_10": "popular titles@10", "tail_share_at_10": "least played half@10"}


def card(evidence: Evidence) -> str:
    """Verdict first, then why, figures, slices, a shelf, changes, and how to take it back."""
    sections = (_verdict, _gates, _figures, _slices, _shelf, _changes, _way_back)
    return "\n".join(line for section in sections for line in (*section(evidence), "")).rstrip() + "\n"


def _verdict(e: Evidence) -> Iterator[str]:
    counts = {v: sum(gate.verdict == v for gate in e.gates) for v in (PASSED, FAILED, NOT_APPLICABLE)}
    compared = any(gate.group == "quality" and gate.verdict == PASSED for gate in e.gates)
    said = "BLOCKED: do not promote" if e.failed else "every gate that applies passed" if compared else (
        "nothing failed, and its quality was NOT compared")
    yield f"## {e.release_id}: {said}"
    days = e.day if e.since in ("", e.day) else f"{e.since} to {e.day}"
    yield (f"{counts[PASSED]} gates passed, {counts[FAILED]} failed, {counts[NOT_APPLICABLE]} not applicable; judged on "
           f"{e.figures['requests']} requests of {e.figures['profiles']} profiles of {days}.")
    yield e.live_note
    yield from _judged_on(e)


def _judged_on(e: Evidence) -> Iterator[str]:
    c = e.corrected
    if c and c["live_share"]:
        yield (f"The live release ranked {c['live_share']:.0%} of the judged slates: plays favour it. Quality is judged on "
               f"{c['explored']} engagements in exploration slots and those on ranked places, each weighted by 1 / its chance "
               f"of being seen (effective sample size {c['effective']:.0f}).")


def _gates(e: Evidence) -> Iterator[str]:
    for gate in e.failed:
        yield f"- **failed: {gate.name}** ({gate.rule}): {gate.reason}" + ("" if gate.overridable else " Not overridable.")
    silent: dict[str, list[str]] = {}
    for gate in e.gates:
        if gate.verdict == NOT_APPLICABLE:
            silent.setdefault(gate.reason, []).append(gate.name)
    for reason, names in silent.items():
        yield f"- not applicable: {', '.join(names)}: {reason}"
    for gate in e.gates:
        if gate.verdict == PASSED and gate.group == "quality":
            yield f"- passed: {gate.name}: {gate.reason}"


def _figures(e: Evidence) -> Iterator[str]:
    systems = e.figures["systems"]
    yield "| | " + " | ".join(systems) + " |"
    yield "| --- |" + " --- |" * len(systems)
    for name, label in LABELS.items():
        yield f"| {label} | " + " | ".join(_number(systems[s].get(name)) for s in systems) + " |"
    for name, label in CORRECTED.labels.items() if e.corrected else ():
        found = e.corrected["systems"]
        yield f"| {label} | " + " | ".join(_number(found[s].get(name)) if s in found else "" for s in systems) + " |"
    if CANDIDATE in e.latency_ms:
        measured = [f"{_number(e.latency_ms[s]['p50'], 0)} / {_number(e.latency_ms[s]['p99'], 0)}" if s in e.latency_ms else ""
                    for s in systems]
        yield "| shelf ms p50 / p99, while judging | " + " | ".join(measured) + " |"


def _slices(e: Evidence) -> Iterator[str]:
    figures = e.fair
    baseline = LIVE if LIVE in figures["differences"] else POPULARITY
    label = {**LABELS, **CORRECTED.labels}[figures["headline"]]
    lost = lost_slices(figures, baseline)
    if not figures["slices"]:
        yield "No slice had enough requests to be shown."
    elif not lost:
        yield f"No slice, taken alone, lost significantly against {baseline} ({len(figures['slices'])} looked at)."
    for s in lost:
        d = s["differences"][baseline]
        yield (f"- slice that lost against {baseline}, taken alone: {s['name']} {s['value']} ({s['requests']} requests): {label} "
               f"{d['ours']:.4f} against {d['theirs']:.4f}")


def _shelf(e: Evidence) -> Iterator[str]:
    shelf = next((g for g in e.golden if g.watched), None)
    if shelf is None:
        return
    yield f"A synthetic profile's shelf in {shelf.market} ({shelf.says}: {_plain(', '.join(shelf.watched[:3]))} …)"
    yield ""
    yield from _before_after(shelf)


def _before_after(shelf: GoldenShelf) -> Iterator[str]:
    if shelf.before is None:
        yield "| | candidate |"
        yield "| --- | --- |"
        for place, name in enumerate(shelf.after[:SHOWN], 1):
            yield f"| {place} | {_plain(name)} |"
        return
    yield "| | live | candidate |"
    yield "| --- | --- | --- |"
    for place in range(min(SHOWN, max(len(shelf.before), len(shelf.after)))):
        pair = [_plain(names[place]) if place < len(names) else "" for names in (shelf.before, shelf.after)]
        yield f"| {place + 1} | {pair[0]} | {pair[1]} |"


def _changes(e: Evidence) -> Iterator[str]:
    changes, baseline = e.changes, e.live
    if baseline is None:
        yield "Nothing is live: this would be the first release."
        return
    rows = [f"{t.table} {t.rows} rows" + (f" ({t.rows - t.rows_live:+d})" if t.rows_live is not None else " (new)")
            for t in changes.tables if not t.same_content]
    yield f"Changed since {baseline}:"
    yield f"- data: {'; '.join(rows) or 'nothing'}"
    yield f"- code: {'the same' if changes.code[0] == changes.code[1] else f'{changes.code[0]} to {changes.code[1]}'}"
    yield f"- recipe: {_pairs(changes.recipe)}"
    yield f"- libraries: {_pairs(changes.libraries)}"


def _way_back(e: Evidence) -> Iterator[str]:
    back = f"`marquee release rollback --reason …` returns to `{e.live}`" if e.live else "there is no release to return to yet"
    yield f"- taking it back: {back}"
    yield f"- ranker: {e.ranker.get('kind')} ({e.ranker.get('reason')})"


def _pairs(found: dict) -> str:
    return "; ".join(f"{name} {before} to {after}" for name, (before, after) in found.items()) or "the same"


def _number(value: float | None, digits: int = 4) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _plain(text: str) -> str:
    """A name inside a table cell: it must not end the cell or start markup."""
    return "".join(" " if c in "\r\n" else f"\\{c}" if c in "|*_`[]<>\\" else c for c in text)



"""What is said of a blocked candidate, last: which gates failed, and the two ways on."""

from collections.abc import Collection, Sequence

RUNBOOK = "docs/runbooks/red-night.md"


def said(release: str, failed: Sequence[str], never_overridden: Collection[str]) -> str:
    """One line. `never_overridden` are the gates of `failed` that nobody can let pass."""
    if fixed := [gate for gate in failed if gate in never_overridden]:
        other = f"No override: nobody can let {', '.join(fixed)} pass."
    else:
        gates = " ".join(f"--gate {gate}" for gate in failed)
        other = f'Or ask the approvers to let it through: `marquee release request-override {release} {gates} --reason "…" --actor NAME`.'
    return f"{release} is blocked, no question is opened; failed: {', '.join(failed)}. Live stays. What to do: {RUNBOOK}. {other}"

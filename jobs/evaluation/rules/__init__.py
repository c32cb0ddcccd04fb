"""Every rule that a candidate must pass, a file a group, in the order in which a person reads them.

A rule that has nothing to decide on says `not_applicable` and why; it never passes in silence.
"""

from jobs.evaluation.case import Case
from jobs.evaluation.gates import Gate
from jobs.evaluation.rules import completeness, data, operations, parity, quality, retrieval, safety, variety
from jobs.evaluation.rules.index import Index

GROUPS = (safety.gates, completeness.gates, data.gates, parity.gates, retrieval.gates, quality.gates, variety.gates, operations.gates)


def decide(case: Case) -> list[Gate]:
    """Whether the comparisons may speak is decided from counts, before any of them is looked at."""
    with Index.open(case) as index:
        return [gate for group in GROUPS for gate in group(case, index)]

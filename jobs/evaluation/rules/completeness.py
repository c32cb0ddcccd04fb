"""Is there enough to judge, and did the candidate answer all of it?"""

from collections.abc import Iterator

from jobs.evaluation.case import Case
from jobs.evaluation.gates import Gate, at_most, enough, equal
from jobs.evaluation.rules.index import Index


def gates(case: Case, index: Index) -> Iterator[Gate]:
    answers, answered, config = case.ours.answers, case.answered, case.config
    degraded = sum(bool(answer.degraded) for answer in answered) / max(1, len(answered))
    yield equal("indexed_titles", "every title of the release is in the vector index", index.count, case.titles.num_rows, index.error)
    yield at_most("answered", "completeness", "share of requests without an answer", 1 - len(answered) / max(1, len(answers)),
                  config.max_failed_answers, len(answers), "requests", True)
    yield at_most("not_degraded", "completeness", "share of shelves that a fallback stood in for", round(degraded, 6),
                  config.max_degraded_answers, len(answered), "shelves", True)
    yield at_most("shelves_filled", "completeness", "share of shelves with nothing on them, whatever the reason",
                  round(sum(not answer.titles for answer in answered) / max(1, len(answered)), 6), config.max_empty_answers,
                  len(answered), "shelves", True)
    yield enough(len(case.judged), config.min_requests)

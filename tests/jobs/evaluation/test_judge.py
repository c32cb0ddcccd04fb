"""The judge with real shadow servers, a real Milvus Lite and a real ledger, over releases whose quality is known."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pyarrow.parquet as pq
import pytest

from contracts import release as names
from contracts.errors import MarqueeError, UsageError
from contracts.release import Manifest, RankerSpec, State, evidence_digest, file_entry
from jobs.attention import Attention
from jobs.evaluation import judge as step
from jobs.evaluation.shadow import Ask, replay, server
from tests.jobs.ranker.ranker_world import SPLIT

FIRST, SECOND, BAD = "2026-03-31-aaaaaaaaaa", "2026-03-31-bbbbbbbbbb", "2026-03-31-cccccccccc"
EVIDENCE_FILES = {"metrics.json", "gates.json", "golden.json", "card.md", "report.html"}


def evidence(judge_home, release_id: str, name: str) -> str:
    return (judge_home.settings.releases / release_id / "evidence" / name).read_text()


def verdicts(judge_home, release_id: str) -> dict[str, str]:
    return {gate["name"]: gate["verdict"] for gate in json.loads(evidence(judge_home, release_id, "gates.json"))["gates"]}


@pytest.fixture(scope="module")
def first(judge_home, judge_config):
    """The first release: nothing is live."""
    seen = Attention("em", np.array([1.0, 0.5]), np.array([[0.9, 0.4], [1.0, 0.6]]), np.array([90, 80]), np.array([9, 4]), "isotonic")
    attention = seen.as_json() | {"training_plays": 40, "effective_plays": 31.4}
    judge_home.build(FIRST, RankerSpec(kind="retrieval", attention=attention))
    return step.run(judge_home.settings, FIRST, judge_config)


@pytest.fixture(scope="module")
def second(judge_home, judge_config, first):
    """The second, judged against the first."""
    judge_home.go_live(FIRST)
    judge_home.build(SECOND, RankerSpec(kind="blend", transition_weight=0.1))
    return step.run(judge_home.settings, SECOND, judge_config)


def test_a_good_first_release_is_judged_without_live(judge_home, first):
    assert first["verdict"] == "passed", evidence(judge_home, FIRST, "card.md")
    assert first["requests"] == 80
    assert first["compared_with"] is None
    found = verdicts(judge_home, FIRST)
    silent = {name for name, verdict in found.items() if verdict == "not_applicable"}
    assert {"not_worse_than_live", "recall_not_worse_than_live", "no_slice_worse_than_live"} <= silent
    assert {found[name] for name in found.keys() - silent} == {"passed"}
    assert len(found.keys() - silent) >= 20
    assert first["ndcg_at_10"]["candidate"] > 2 * first["ndcg_at_10"]["popularity"]
    row = judge_home.ledger.get(FIRST)
    assert row.evidence_digest == first["evidence_digest"]
    assert row.payload_digest == first["payload_digest"]


def test_the_pool_misses_only_what_may_not_be_shown(judge_home, first):
    """The pool is larger than the catalogue: recall is the share of the relevant titles that suit the profile."""
    figures = json.loads(evidence(judge_home, FIRST, "metrics.json"))["figures"]
    assert figures["systems"]["candidate"]["ndcg_at_10"] == figures["systems"]["retrieval order"]["ndcg_at_10"], "arranged alike"
    suits = {row["title_id"]: row["maturity"] <= 12 for row in judge_home.world.titles}
    wanted = []
    for row in (row for row in judge_home.world.requests if row["role"] == "judge"):
        watched = {play["title_id"] for play in judge_home.world.plays if play["profile_id"] == row["profile_id"]
                   and play["engaged"] and play["known_at"] < row["event_time"]}
        wanted.append([suits[title] for title in row["relevant_titles"] if title not in watched])
    expected = np.mean([np.mean(found) for found in wanted if found])
    assert figures["systems"]["candidate"]["recall_at_200"] == pytest.approx(expected, abs=1e-6)


def test_judging_again_changes_nothing(judge_home, judge_config, first):
    manifest = (judge_home.settings.releases / FIRST / names.MANIFEST).read_bytes()
    assert step.run(judge_home.settings, FIRST, judge_config) == first
    assert (judge_home.settings.releases / FIRST / names.MANIFEST).read_bytes() == manifest


def test_the_manifest_covers_what_the_approver_sees(judge_home, first):
    folder = judge_home.settings.releases / FIRST
    manifest = Manifest.model_validate_json((folder / names.MANIFEST).read_text())
    assert set(manifest.evidence) == EVIDENCE_FILES == {path.name for path in (folder / "evidence").iterdir()}
    for name, entry in manifest.evidence.items():
        assert file_entry(folder / "evidence" / name) == entry
    assert manifest.evidence_digest == evidence_digest(manifest.evidence, first["payload_digest"], None)
    assert first["evaluation"] == manifest.evidence_digest[:10]


def test_no_release_file_names_a_member(judge_home, first):
    members = {row["profile_id"] for row in judge_home.world.requests}
    looked = 0
    for path in (judge_home.settings.releases / FIRST).rglob("*"):
        if path.suffix in (".json", ".md", ".html"):
            text = path.read_text()
            assert not [member for member in members if re.search(rf"\b{member}\b", text)], path
            looked += 1
    assert looked >= 8
    assert not (judge_home.settings.work / FIRST / "judge").exists()


def test_the_second_is_compared_with_the_first(judge_home, second):
    assert second["compared_with"] == FIRST
    assert verdicts(judge_home, SECOND)["not_worse_than_live"] == "passed"
    figures = json.loads(evidence(judge_home, SECOND, "metrics.json"))["figures"]
    assert set(figures["systems"]) == {"candidate", "live", "popularity", "retrieval order"}
    assert set(figures["differences"]) == {"live", "popularity", "retrieval order"}
    assert {s["name"] for s in figures["slices"]} >= {"kids", "history", "device", "market"}
    golden = json.loads(evidence(judge_home, SECOND, "golden.json"))
    assert len(golden) == 6
    assert all(shelf["before"] and shelf["after"] for shelf in golden if "kids" not in shelf["profile"])
    card = evidence(judge_home, SECOND, "card.md")
    assert card.index("every gate that applies passed") < card.index("| NDCG@10 |") < card.index(f"returns to `{FIRST}`")
    assert len(card.split()) < 900


def test_a_moved_live_release_asks_for_new_evidence(judge_home, judge_config, second):
    """The first's evidence stays as approved; what waits is judged anew."""
    judge_home.build(BAD, RankerSpec(kind="retrieval"), shuffled=True)
    again = step.run(judge_home.settings, FIRST, judge_config)
    assert again["compared_with"] is None
    assert judge_home.ledger.get(FIRST).state == State.LIVE


def test_a_bad_candidate_is_blocked_with_reasons(judge_home, judge_config, second):
    if not (judge_home.settings.releases / BAD).exists():
        judge_home.build(BAD, RankerSpec(kind="retrieval"), shuffled=True)
    result = step.run(judge_home.settings, BAD, judge_config)
    assert result["verdict"] == "blocked"
    assert {"not_worse_than_live", "better_than_popularity"} <= set(result["failed_gates"])
    assert judge_home.ledger.get(BAD).state == State.BLOCKED
    assert "not_worse_than_live" in judge_home.ledger.transitions(BAD)[-1].reason
    assert evidence(judge_home, BAD, "card.md").splitlines()[0].endswith("BLOCKED: do not promote")
    assert verdicts(judge_home, BAD)["no_ineligible_title"] == "passed"  # quality fails, safety holds


def test_too_few_requests_say_nothing_and_say_so(judge_home, judge_config, second):
    result = step.run(judge_home.settings, SECOND, replace(judge_config, max_requests=10))
    assert result["requests"] == 10
    found = verdicts(judge_home, SECOND)
    for name in ("enough_requests", "not_worse_than_live", "better_than_popularity", "not_worse_than_retrieval_order"):
        assert found[name] == "not_applicable"
    assert found["no_ineligible_title"] == "passed"
    assert "10 requests, 20 needed" in evidence(judge_home, SECOND, "card.md")


def test_an_altered_file_is_not_judged(judge_home, judge_config, second):
    path = judge_home.settings.releases / SECOND / names.ITEM_VECTORS
    vectors = np.load(path)
    np.save(path, vectors + 0.001)
    try:
        with pytest.raises(MarqueeError, match=r"item_vectors\.npy is not what payload\.json says"):
            step.run(judge_home.settings, SECOND, judge_config)
    finally:
        np.save(path, vectors)


def test_a_release_that_was_not_sealed_is_named(judge_home, judge_config):
    with pytest.raises(UsageError, match="release seal"):
        step.run(judge_home.settings, "2026-03-31-0123456789", judge_config)


def test_a_shadow_server_that_cannot_start_says_why_and_is_gone(judge_home, tmp_path):
    with pytest.raises(MarqueeError, match=r"shadow server exited with \d+: .*no such release"), \
            server(judge_home.settings, "2026-03-31-nothing000", tmp_path, 60):
        pass


def test_a_request_that_fails_is_an_answer_with_an_error():
    answers = replay("http://127.0.0.1:9", [Ask("r", "p", SPLIT.ranker_end, "tv", "home")], 5, 1)
    assert answers[0].error.startswith("ConnectError")
    assert answers[0].titles == ()


class References(HTMLParser):
    """Every address that a page would fetch, and every script."""

    def __init__(self):
        super().__init__()
        self.found, self.tags = [], set()

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.found += [value for name, value in attrs if name in ("src", "href", "xlink:href", "data", "action", "srcset")
                       and value and not value.startswith(("#", "data:"))]


def test_the_report_needs_nothing_from_outside(judge_home, first):
    page = evidence(judge_home, FIRST, "report.html")
    references = References()
    references.feed(page)
    assert references.found == []
    assert "script" not in references.tags
    assert {"svg", "table", "section"} <= references.tags
    assert "@import" not in page
    assert not re.search(r"url\((?!\s*['\"]?#)", page)
    assert page.count("<svg") >= 5
    assert "no_ineligible_title" in page
    assert "13 plays on 170 impressions of titles shown at several places (EM)" in page
    assert "40 plays, weighted by it, count as 31" in page


def test_titles_cannot_inject_markup(judge_home, first):
    titles = pq.read_table(judge_home.settings.releases / FIRST / names.TITLES)
    assert titles.num_rows  # the names come from here
    from jobs.evaluation.card import _plain
    assert _plain("a|b*c\n`d` <b>") == "a\\|b\\*c \\`d\\` \\<b\\>"

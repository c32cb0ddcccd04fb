"""Which nights train, and what a refresh keeps: real release folders, a real ledger, the policy's every branch."""

from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta

import pytest

from contracts import release as names
from contracts.errors import MarqueeError, UsageError
from contracts.landing import MARKER
from contracts.release import Provenance, State
from contracts.tags import tag_file, training_file
from jobs.recipes import nano
from jobs.release import begin, files, inputs, retraining, seal
from tests.jobs.release.conftest import DAY, build, tag

NIGHTS = [str(date(2026, 3, 31) + timedelta(days=i)) for i in range(8)]
pytestmark = pytest.mark.usefixtures("code")

LIVE = f"{DAY}-aaaaaaaaaa"


@pytest.fixture
def live(settings, ledger, ranker_text, code):
    """A sealed release of DAY that is live, made by this code; every night since has landed."""
    root = build(settings, LIVE, ranker_text)
    made = files.provenance(settings, LIVE).model_copy(
        update={"code": inputs.code_hash(code), "recipe": nano().as_inputs(), "libraries": inputs.library_versions()})
    (root / names.PROVENANCE).write_text(made.model_dump_json())
    ledger.begin(LIVE, DAY, "begin")
    seal.run(settings, LIVE)
    go_live(ledger, LIVE)
    for night in NIGHTS:
        (settings.landing / night).mkdir(parents=True)
        (settings.landing / night / MARKER).write_text("{}")
    return root


def go_live(ledger, release: str) -> None:
    ledger.move(release, State.JUDGED, "test")
    ledger.move(release, State.AWAITING_APPROVAL, "test")
    pointer = ledger.pointer()
    pointer = ledger.propose(release, pointer.version if pointer else 0)
    ledger.confirm(ledger.switch(pointer.version, datetime.now(UTC) + timedelta(minutes=5)).version)


def decided(settings, ds: str, **changed) -> tuple[str, str]:
    found = retraining.run(settings.model_copy(update=changed), ds, nano())
    return found["action"], found["reason"]


def measured(ledger, ds: str, recall: float, ndcg: float = 0.2, unlearnt: float = 0.1, trained_by: str = LIVE) -> None:
    ledger.keep_live_quality(LIVE, ds, "control", {"trained_by": trained_by, "recall_at_200": recall, "ndcg_at_10": ndcg,
                                                   "unlearnt_share": unlearnt})


def test_by_default_every_night_trains(settings, live):
    assert decided(settings, NIGHTS[1]) == ("retrain", "models are trained every night (MARQUEE_RETRAIN)")


def test_without_a_live_release_there_is_nothing_to_keep(settings, ledger):
    assert decided(settings, DAY, retrain="every_n_nights") == ("retrain", "no release is live yet")


def test_every_n_nights_counts_landed_nights_since_the_training(settings, live):
    found = [decided(settings, night, retrain="every_n_nights", retrain_nights=3)[0] for night in NIGHTS[1:5]]
    assert found == ["refresh", "refresh", "retrain", "retrain"], "retrained until it is live"
    assert decided(settings, NIGHTS[1], retrain="every_n_nights", retrain_nights=3)[1] == "live's models are 1 of 3 nights old"


@pytest.mark.parametrize("what", ["code", "recipe", "library", "file"])
def test_what_changed_since_is_trained_with(settings, live, code, what):
    if what == "code":
        (code / "jobs" / "new.py").write_text("print(1)\n")
    elif what == "file":
        (live / names.QUERY_TOWER).write_bytes(b"torn")
    else:
        found = files.provenance(settings, LIVE)
        other = {"recipe": {"recipe": {"name": "nano"}}, "library": {"libraries": found.libraries | {"torch": "1"}}}[what]
        (live / names.PROVENANCE).write_text(found.model_copy(update=other).model_dump_json())
    action, reason = decided(settings, NIGHTS[1], retrain="every_n_nights")
    assert action == "retrain"
    assert {"library": "library's version", "file": "query_tower.onnx differ"}.get(what, what) in reason


def test_decay_is_told_against_the_first_nights(settings, live, ledger):
    policy = {"retrain": "on_decay", "retrain_window": 2, "retrain_nights": 30}
    for night, recall in zip(NIGHTS[1:7], (0.50, 0.52, 0.49, 0.47, 0.45, 0.44)):
        measured(ledger, night, recall)
    found = [decided(settings, night, **policy) for night in NIGHTS[1:7]]
    assert [action for action, _ in found] == ["refresh"] * 5 + ["retrain"], "0.46 is 9.8 % below 0.51, 0.445 is 12.7 %"
    assert found[-1][1].startswith("live quality fell: recall_at_200 0.5100 in the first 2 nights, 0.4450 in the newest")


def test_quality_that_holds_keeps_the_models_until_they_are_old(settings, live, ledger):
    for night in NIGHTS[1:7]:
        measured(ledger, night, 0.5)
    policy = {"retrain": "on_decay", "retrain_window": 2, "retrain_nights": 6}
    assert decided(settings, NIGHTS[5], **policy) == ("refresh", "live quality holds: recall_at_200 0.5000, now 0.5000, ndcg_at_10 0.2000, now 0.2000")
    assert decided(settings, NIGHTS[6], **policy)[1] == "live's models are 6 nights old (MARQUEE_RETRAIN_NIGHTS=6)"


def test_drift_and_an_unmeasured_night_train(settings, live, ledger):
    policy = {"retrain": "on_decay", "retrain_window": 1}
    measured(ledger, NIGHTS[1], 0.5)
    measured(ledger, NIGHTS[2], 0.5, unlearnt=0.3)
    assert decided(settings, NIGHTS[2], **policy)[1].startswith("drift: 30% of engagement")
    assert decided(settings, NIGHTS[3], **policy)[1].startswith(f"live quality of {NIGHTS[3]} is not known")


def test_other_models_nights_do_not_count(settings, live, ledger):
    for night in NIGHTS[1:3]:
        measured(ledger, night, 0.9, trained_by="earlier")
    measured(ledger, NIGHTS[3], 0.5)
    assert decided(settings, NIGHTS[3], retrain="on_decay", retrain_window=2) == ("refresh", "1 nights of live quality, 3 needed to see decay")


def test_a_rerun_finds_the_decision_and_a_person_may_take_another(settings, live, ledger):
    first = decided(settings, NIGHTS[1], retrain="every_n_nights")
    assert first[0] == "refresh"
    assert decided(settings, NIGHTS[1]) == first, "decided once a night"
    with pytest.raises(UsageError, match="say why"):
        retraining.run(settings, NIGHTS[1], nano(), "retrain")
    with pytest.raises(UsageError, match="there are retrain and refresh"):
        retraining.run(settings, NIGHTS[1], nano(), "both", "x")
    found = retraining.run(settings, NIGHTS[1], nano(), "retrain", "new genres", "ada")
    assert (found["action"], found["reason"], found["actor"]) == ("retrain", "new genres", "ada")
    assert retraining.run(settings, NIGHTS[1], nano())["actor"] == "ada"


def test_a_refresh_of_what_is_no_longer_live_is_decided_anew(settings, live, ledger, make):
    assert decided(settings, NIGHTS[1], retrain="every_n_nights")[0] == "refresh"
    make("other", compared_with=LIVE)
    ledger.move("other", State.AWAITING_APPROVAL, "test")
    pointer = ledger.propose("other", ledger.pointer().version)
    pointer = ledger.switch(pointer.version, datetime.now(UTC) + timedelta(minutes=5))
    assert decided(settings, NIGHTS[1], retrain="every_n_nights")[0] == "refresh", "while it is probed, live is the one before"
    ledger.confirm(pointer.version)
    assert decided(settings, NIGHTS[1], retrain="every_n_nights")[0] == "retrain", "other was made by other code"


# --- what a refresh is ----------------------------------------------------------------------------------------------

@contextmanager
def night(settings, ds: str):
    folder = settings.lake / "tags"
    folder.mkdir(parents=True, exist_ok=True)
    record = tag().model_copy(update={"ds": ds, "first": date.fromisoformat(ds), "last": date.fromisoformat(ds)})
    for name in (tag_file(f"nightly_{ds}"), training_file(f"nightly_{ds}")):
        (folder / name).write_text(record.model_dump_json())
    yield


def test_a_refresh_has_an_id_of_its_own_and_its_bases_models(settings, live, ledger):
    with night(settings, NIGHTS[1]):
        plain = begin.run(settings, NIGHTS[1], nano())
        decided(settings, NIGHTS[1], retrain="every_n_nights")
        found = begin.run(settings, NIGHTS[1], nano())
    assert (plain["refresh_of"], found["refresh_of"]) == (None, LIVE)
    assert found["release_id"] != plain["release_id"]
    folder = settings.releases / found["release_id"]
    sealed = files.payload(settings, LIVE).files
    for model in (names.QUERY_TOWER, names.ITEM_TOWER, names.RANKER):
        assert names.file_entry(folder / model) == sealed[model]
    provenance = Provenance.model_validate_json((folder / names.PROVENANCE).read_text())
    assert (provenance.trained_by, provenance.trained_day, provenance.day) == (LIVE, DAY, NIGHTS[1])


def test_a_torn_base_is_not_refreshed(settings, live, ledger):
    with night(settings, NIGHTS[1]):
        decided(settings, NIGHTS[1], retrain="every_n_nights")
        (live / names.ITEM_TOWER).write_bytes(b"torn")
        with pytest.raises(MarqueeError, match=r"item_tower\.onnx differ from what was sealed"):
            begin.run(settings, NIGHTS[1], nano())


def test_copies_that_a_kill_left_half_are_made_whole(settings, live, ledger):
    with night(settings, NIGHTS[1]):
        decided(settings, NIGHTS[1], retrain="every_n_nights")
        folder = settings.releases / begin.run(settings, NIGHTS[1], nano())["release_id"]
        whole = (folder / names.RANKER).read_bytes()
        (folder / names.RANKER).write_bytes(whole[:10])
        (folder / names.QUERY_TOWER).unlink()
        begin.run(settings, NIGHTS[1], nano())
    assert (folder / names.RANKER).read_bytes() == whole
    assert names.file_entry(folder / names.QUERY_TOWER) == files.payload(settings, LIVE).files[names.QUERY_TOWER]

"""The faults by name: after which step of a good night each is put in, how, and what the check that stops it must say.

Each changes what a source, a job, a disk or a hurried person could change, and nothing of the code.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

from bench.faults import inject
from bench.faults.town import Town


@dataclass(frozen=True)
class Fault:
    """`says` is a pattern that names the cause, in the words of the check or the names of the gates that stop it."""

    name: str
    after: str
    put_in: Callable[[Town], None]
    says: str
    index: bool = False  # it changes the vector index

    def named(self, words: str) -> bool:
        return re.search(self.says, words, re.IGNORECASE) is not None


def _landed(name: str, change: Callable, says: str, table: str = "plays", tell: bool = True) -> Fault:
    """A fault in a table of the landed day; `tell`: the source believes it, and says so in its marker."""
    return Fault(name, "land", lambda town: inject.landed(town, table, change, tell), says)


def _training(name: str, table: str, change: Callable, says: str) -> Fault:
    return Fault(name, "index", lambda town: inject.training(town, table, change), says)


def _release(name: str, change: Callable, says: str, after: str = "ranker") -> Fault:
    return Fault(name, after, change, says)


def _index(name: str, change: Callable, says: str, after: str = "seal") -> Fault:
    return Fault(name, after, change, says, index=True)


FAULTS: tuple[Fault, ...] = (
    # --- the landed day
    _landed("schema change: a required column has another name", inject.rename("title_id", "title"), "title_id"),
    _landed("schema change: times are text that is no time", inject.as_text("event_time"), "event_time"),
    Fault("a table that the marker names did not land", "land", inject.remove_table("plays"), "plays"),
    Fault("a file was cut off while it was copied", "land", inject.cut_file("plays"), "plays"),
    Fault("the marker was not written", "land", inject.remove_marker, "_landed.json|complete"),
    _landed("truncated partition: fewer rows than the marker says", inject.keep(0.3), r"says \d+ plays, the files have \d+", tell=False),
    _landed("nulls: most plays have no title", inject.null("title_id", 0.7), "plays|quarantine"),
    _landed("unknown titles: ids have another prefix", inject.prefix("title_id", "x-"), "plays|quarantine|title"),
    _landed("clock: everything happened in two days' time", inject.shift_days("event_time", 2), "event_time|plays|quarantine"),
    _landed("redelivery: last week's plays again", inject.older(7), "is_late|late|plays"),
    _landed("unit flip: watched milliseconds", inject.times("watched_seconds", 1000.0), "watched_seconds|plays"),
    _landed("out of range: every position is 0", inject.constant("position", 0), "position|impressions", table="impressions"),
    Fault("an empty day", "land", inject.empty_day, "empty day|no row|plays"),
    Fault("the day lands twice, under two names", "land", inject.land_again, "overlap"),
    # --- the landed day, believed by everybody: found by comparison with earlier nights
    _landed("truncated partition, and the source believes it", inject.keep(0.15), "plays_volume"),
    _landed("nulls in a fifth of the profiles", inject.null("profile_id", 0.25), "quarantined|profile_id is missing"),
    _landed("duplicates: every play three times", inject.repeat(3), "duplicates|event_id stands more than once"),
    _landed("unit flip: watched minutes", inject.times("watched_seconds", 1 / 60), "plays_drift|completion|no judge request"),
    # --- marts and online rows
    Fault("the profile features of the night are empty", "examples", inject.empty_mart("feat_profile_daily"), "profile_daily|plays_7d"),
    Fault("the profile features are a hundred times as large", "examples", inject.scale_mart("feat_profile_daily", 100), "profile_daily"),
    Fault("the licence table is empty", "begin", inject.empty_mart("dim_licence_window"), "licence|window"),
    Fault("the title table is empty", "begin", inject.empty_mart("dim_title_version"), "title|learn"),
    Fault("no title has a maturity", "begin", inject.null_mart("dim_title_version", "maturity"), "licence window is open|maturity|returned"),
    Fault("the night's tag is gone", "begin", inject.drop_tag("fct_play"), "tag"),
    Fault("online rows were lost", "seal", inject.lose_online_rows, "online_equals_offline"),
    Fault("online rows are those of other profiles", "seal", inject.shuffle_online_rows, "online_equals_offline"),
    # --- training rows
    _training("leaked label: a feature counts the engagement itself", "impressions", inject.copy_column("engagement", "plays_1d"), "no_leaked_label"),
    _training("features from after the request", "requests", inject.shift_days("profile_features_at", 3), "features_known_before"),
    _training("stale features: two weeks old", "requests", inject.shift_days("profile_features_at", -14), "features_fresh"),
    _training("a feature is not filled any more", "requests", inject.null("plays_30d", 1.0), "features_filled"),
    _training("a feature in another unit", "requests", inject.times("watch_hours_30d", 3600.0), "features_drift"),
    # --- the files of the release
    _release("shuffled vectors", inject.shuffle_vectors, "vectors_of_the_item_tower|vectors"),
    _release("vectors of another dimension", inject.wrong_dimension, "item_vectors"),
    _release("a vector that is not a number", inject.nan_vector, "item_vectors"),
    _release("vectors that nobody normalised", inject.scale_vectors, "item_vectors"),
    _release("the query tower of another run", inject.file_of_live("query_tower.onnx"), "towers_of_one_run|query_tower"),
    _release("the item tower of another run", inject.file_of_live("item_tower.onnx"), "item_tower|towers_of_one_run"),
    _release("a tower that is cut off", inject.cut_release_file("query_tower.onnx"), "query_tower"),
    _release("ranker with permuted feature names", inject.permute_ranker_names, "ranker"),
    _release("ranker that reads permuted columns", inject.permute_ranker_columns, "ranker|not_worse_than"),
    _release("a ranker that is cut off", inject.cut_release_file("ranker.txt"), "ranker"),
    _release("popularity collapse: the ranker only counts plays", inject.popularity_ranker, "coverage|popularity_share|not_worse_than|ranker"),
    _release("a title feature is missing", inject.drop_title_column("plays_7d"), "titles.parquet"),
    _release("stale title features: none is filled", inject.null_title_column("plays_30d"), "features_filled|titles.parquet"),
    _release("titles in another order", inject.reverse_titles, "titles.parquet"),
    _release("transitions to titles that do not exist", inject.unknown_transitions, "transitions"),
    _release("no fallback order for any market", inject.empty_fallback, "fallback"),
    _release("a file is missing", inject.remove_release_file("transitions.parquet"), "transitions"),
    _release("the specification of another release", inject.rename_spec, "spec.json"),
    # --- the vector index
    _index("the index lost a tenth of its titles", inject.lose_indexed(0.1), "collection|index", after="ranker"),
    _index("the index holds other vectors", inject.shuffle_index, "indexed_vectors|collection"),
    _index("every licence window is open in the index", inject.open_index, "filter_agrees|filtered_recall"),
    _index("every maturity is 0 in the index", inject.zero_maturity_index, "filter_agrees|filtered_recall"),
    # --- eligibility
    _release("every licence was withdrawn in the log only", inject.revoke_log, "eligibility|filter|shelves_filled", after="seal"),
    _release("no title has a maturity in the log only", inject.unrate_log, "eligibility|filter|shelves_filled", after="seal"),
    # --- after it was sealed and judged
    _release("a bit flips after it was sealed", inject.flip_bit("item_vectors.npy"), "item_vectors", after="seal"),
    _release("payload.json was edited", inject.edit_payload, "payload", after="seal"),
    _release("a file changes after it was judged", inject.flip_bit("titles.parquet"), "titles.parquet", after="judge"),
    _release("the card was edited", inject.edit_card, "card.md|evidence", after="judge"),
    _release("the manifest says it was compared with another release", inject.edit_manifest, "manifest|evidence|live", after="judge"),
    _release("the live release moved since it was judged", inject.move_live, "live moved", after="judge"),
    _release("a file changes while the question waits", inject.flip_bit("query_tower.onnx"), "query_tower", after="ask"),
)

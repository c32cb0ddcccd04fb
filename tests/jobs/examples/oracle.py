"""What the training rows must be, worked out a second time: plain Python over the marts as pyiceberg reads them at the
tag, no Spark, no Feast, nothing of jobs.examples.
"""

import hashlib
from collections import defaultdict
from datetime import datetime, timedelta

from contracts.marts import PROFILE_FEATURES, TITLE_FEATURES, tag_name
from contracts.settings import Settings
from jobs.lake import read

DECLARED = ("market", "is_kids", "maturity_limit", "preferred_genres", "language", "attributes")
VALID = timedelta(days=32)


class Oracle:
    """The expected rows of one night, as dicts."""

    def __init__(self, settings: Settings, ds: str):
        self.ds, self.record = ds, read.tag_record(settings, ds)
        self.split = self.record.split
        marts = ("fct_impression", "fct_play", "feat_profile_daily", "feat_title_daily", "dim_profile_version")
        self.marts = {mart: read.table(settings, f"marts.{mart}", tag=tag_name(ds)).to_pylist() for mart in marts}
        self.history = {
            "feat_profile_daily": _by_key(self.marts["feat_profile_daily"], "profile_id"),
            "feat_title_daily": _by_key(self.marts["feat_title_daily"], "title_id"),
            "dim_profile_version": _by_key(self.marts["dim_profile_version"], "profile_id"),
        }

    def requests(self) -> dict[str, dict]:
        """request_id → row."""
        rows = [*(self._slates() if self.record.has_impressions else self._sampled_plays()), *self._judged()]
        return {row["request_id"]: row | self._profile_facts(row["profile_id"], row["event_time"]) for row in rows}

    def impressions(self) -> dict[tuple[str, str], dict]:
        """(request_id, title_id) → row."""
        requests = {row["request_id"]: row for row in self._slates()} if self.record.has_impressions else {}
        found: dict[tuple[str, str], dict] = {}
        for shown in sorted(self.marts["fct_impression"], key=lambda row: (row["position"], row["event_id"])):
            request = requests.get(shown["slate_id"])
            if request is None or request["profile_id"] != shown["profile_id"]:
                continue
            row = found.setdefault((shown["slate_id"], shown["title_id"]), {
                "ds": self.ds, "request_id": shown["slate_id"], "title_id": shown["title_id"], "position": shown["position"],
                "propensity": shown["propensity"], "engagement": 0,
                **self._title_facts(shown["title_id"], request["event_time"]),
            })
            row["engagement"] = max(row["engagement"], shown["engagement"])
        return found

    # --- labels ---

    def _slates(self) -> list[dict]:
        slates = defaultdict(list)
        for shown in self.marts["fct_impression"]:
            slates[shown["slate_id"]].append(shown)
        ended_later = {play["slate_id"] for play in self.marts["fct_play"] if play["event_time"] >= self.split.ranker_end}
        engaged, silent = [], []
        for slate_id, titles in slates.items():
            first = min(titles, key=_order)
            if not self.split.retriever_end <= first["event_time"] < self.split.ranker_end or slate_id in ended_later:
                continue
            best: dict[str, tuple[int, int]] = {}
            for shown in titles:
                if shown["engagement"] > 0 and shown["profile_id"] == first["profile_id"]:
                    place, gain = best.get(shown["title_id"], (10**9, 0))
                    best[shown["title_id"]] = min(place, shown["position"]), max(gain, shown["engagement"])
            labels = sorted((place, title_id, gain) for title_id, (place, gain) in best.items())
            (engaged if labels else silent).append(self._request("ranker", slate_id, first, labels))
        silent.sort(key=lambda row: _md5(row["request_id"]))
        return engaged + silent[:2000]

    def _sampled_plays(self) -> list[dict]:
        by_profile = defaultdict(list)
        for (_, title_id), (first, gain) in self._firsts(self.split.ranker_end).items():
            if first["event_time"] >= self.split.retriever_end:
                row = self._request("ranker", f"play:{first['event_id']}", first, [(0, title_id, gain)])
                by_profile[first["profile_id"]].append((_md5(first["event_id"]), row))
        return [row for rows in by_profile.values() for _, row in sorted(rows, key=lambda pair: pair[0])[:20]]

    def _judged(self) -> list[dict]:
        start, end = self.split.ranker_end, self.split.judge_end
        sessions: dict[str, dict] = {}
        for event in self.marts["fct_impression"] + self.marts["fct_play"]:
            if start <= event["event_time"] < end:
                sessions[event["profile_id"]] = min(sessions.get(event["profile_id"], event), event, key=_order)
        labels = defaultdict(list)
        for (profile_id, title_id), (first, gain) in self._firsts(end).items():
            if first["event_time"] >= start:
                labels[profile_id].append((first["event_time"], title_id, gain))
        return [
            self._request("judge", f"judge:{self.ds}:{profile_id}", sessions[profile_id], sorted(found))
            for profile_id, found in labels.items()
        ]

    def _firsts(self, until: datetime) -> dict[tuple[str, str], tuple[dict, int]]:
        """(profile, title) → first engaged play before `until`, strongest gain before it."""
        firsts: dict[tuple[str, str], tuple[dict, int]] = {}
        for play in self.marts["fct_play"]:
            if play["engaged"] and play["event_time"] < until:
                key = play["profile_id"], play["title_id"]
                completion = play["completion"]
                gain = 2 if completion is None else 3 if completion >= 0.9 else 2 if completion >= 0.5 else 1
                first, best = firsts.get(key, (play, gain))
                firsts[key] = min(first, play, key=_order), max(best, gain)
        return firsts

    def _request(self, role: str, request_id: str, event: dict, labels: list[tuple]) -> dict:
        return {
            "ds": self.ds, "role": role, "request_id": request_id, "profile_id": event["profile_id"],
            "event_time": event["event_time"], "device": event["device"] or "", "surface": event["surface"] or "home",
            "relevant_titles": [label[1] for label in labels], "relevant_gains": [label[2] for label in labels],
        }

    # --- features ---

    def _profile_facts(self, profile_id: str, moment: datetime) -> dict:
        found = self._newest("feat_profile_daily", profile_id, "feature_time", moment, VALID)
        declared = self._newest("dim_profile_version", profile_id, "valid_from", moment, None)
        return {
            **{name: declared.get(name) for name in DECLARED},
            **{name: found.get(name) for name in PROFILE_FEATURES},
            "profile_features_at": found.get("feature_time"),
        }

    def _title_facts(self, title_id: str, moment: datetime) -> dict:
        # `known by` t - lag; a microsecond on top, since _newest is strict
        found = self._newest("feat_title_daily", title_id, "feature_time", moment - self.split.counts_lag + timedelta(microseconds=1), VALID)
        return {**{name: found.get(name) for name in TITLE_FEATURES}, "title_features_at": found.get("feature_time")}

    def _newest(self, mart: str, key: str, time: str, before: datetime, valid: timedelta | None) -> dict:
        """The newest row that happened and was known strictly before a moment."""
        fitting = [
            row for row in self.history[mart].get(key, ())
            if row[time] < before and row["known_at"] < before
            and (valid is None or row[time] >= before - timedelta(microseconds=1) - valid)
        ]
        return max(fitting, key=lambda row: (row[time], row["known_at"]), default={})


def _by_key(rows: list[dict], key: str) -> dict[str, list[dict]]:
    grouped = defaultdict(list)
    for row in rows:
        grouped[row[key]].append(row)
    return grouped


def _order(event: dict) -> tuple:
    return event["event_time"], event["event_id"]


def _md5(text: str) -> str:
    return hashlib.md5(text.encode()).hexdigest()

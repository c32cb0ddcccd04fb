"""Titles and licence windows as the night knows them: the versions that hold by the end of its interval."""

from datetime import datetime

import pyarrow as pa
import pyarrow.compute as pc

from contracts.content import in_force
from contracts.eligibility import FAR, Eligibility, Record
from contracts.marts import MART_COLUMNS, TITLE_FEATURES
from contracts.settings import Settings
from contracts.split import TimeSplit

CONTENT_COLUMNS = ("title_id", "name", "synopsis", "genres", "credits", "language", "kind", "series_id", "year",
                   "runtime_minutes", "maturity", "launched_at")

TITLES_SCHEMA = pa.schema(
    [(name, {"genres": pa.list_(pa.string()), "credits": pa.list_(pa.string()), "year": pa.int64(),
             "runtime_minutes": pa.float64(), "maturity": pa.int64(),
             "launched_at": pa.timestamp("us", "UTC")}.get(name, pa.string())) for name in CONTENT_COLUMNS]
    + [("id_index", pa.int64())]
    + [(name, pa.float64() if MART_COLUMNS["feat_title_daily"][name] == "double" else pa.int64()) for name in TITLE_FEATURES]
)
"""titles.parquet without its last column: sorted by title_id; row i is item_vectors.npy's row i."""

WINDOWS_TYPE = pa.list_(pa.struct([("market", pa.string()), ("opens_at", pa.int64()), ("closes_at", pa.int64())]))
"""titles.parquet's `windows`: what the vector collections know of a title's licences, in epoch seconds."""


def title_table(titles: list[dict], id_titles: list[str], counts: pa.Table) -> pa.Table:
    """TITLES_SCHEMA rows. `counts` are feat_title_daily rows up to the counts day; the newest of each title holds."""
    id_index = {title: i for i, title in enumerate(id_titles, 1)}
    newest = {row["title_id"]: row for row in counts.sort_by("snapshot_day").to_pylist()}
    rows = []
    for title in titles:
        row = {name: title[name] for name in CONTENT_COLUMNS}
        row["id_index"] = id_index.get(title["title_id"], 0)
        row |= {name: newest.get(title["title_id"], {}).get(name) for name in TITLE_FEATURES}
        rows.append(row)
    return pa.Table.from_pylist(rows, TITLES_SCHEMA)


def with_windows(table: pa.Table, state: Eligibility, at: int) -> pa.Table:
    """Adds `windows`: each market's current or next window as of `at`, as collection.collection_rows indexes them."""
    markets = state.markets()
    windows = [
        [{"market": market, "opens_at": span[0], "closes_at": span[1]}
         for market in markets if (span := state.window(title, market, at))]
        for title in table["title_id"].to_pylist()
    ]
    return table.append_column("windows", pa.array(windows, WINDOWS_TYPE))


def eligibility(titles: list[dict], windows: pa.Table) -> Eligibility:
    """The log's state from the marts: titles as given, windows as `current_windows` leaves them."""
    state = Eligibility()
    records = [Record(0, "title", title["title_id"], maturity=title["maturity"]) for title in titles]
    for row in windows.to_pylist():
        closes = row["closes_at"]
        records.append(Record(
            0, "licence", row["title_id"], window_id=row["window_id"], market=row["market"],
            opens_at=seconds(row["opens_at"]), closes_at=FAR if closes is None else seconds(closes),
            revoked=bool(row["revoked"]),
        ))
    state.apply(Record(**{**vars(record), "seq": seq}) for seq, record in enumerate(records, 1))
    return state


def current_windows(windows: pa.Table, known_by: datetime) -> pa.Table:
    """Versions of licence windows that held at a moment of known time, in a fixed order."""
    moment = pa.scalar(known_by, pa.timestamp("us", "UTC"))
    superseded = pc.fill_null(pc.less(windows["superseded_at"], moment), False)
    return windows.filter(pc.invert(superseded)).sort_by(
        [(name, "ascending") for name in ("known_at", "title_id", "market", "window_id", "opens_at")])


def seconds(moment: datetime) -> int:
    return int(moment.timestamp())


def read_titles(settings: Settings, tag: str, split: TimeSplit) -> list[dict]:
    """The version of each title that holds at the end of the night's interval, sorted by title id."""
    from jobs.lake.read import table

    versions = table(settings, "marts.dim_title_version", tag, (*CONTENT_COLUMNS, "valid_from"), _before(split.judge_end))
    return list(in_force(versions.to_pylist(), split.judge_end).values())


def read_counts(settings: Settings, tag: str, split: TimeSplit) -> pa.Table:
    from jobs.lake.read import table

    columns = ("title_id", "snapshot_day", *TITLE_FEATURES)
    return table(settings, "marts.feat_title_daily", tag, columns, f"snapshot_day <= '{split.counts_day}'")


def read_windows(settings: Settings, tag: str, split: TimeSplit) -> pa.Table:
    from jobs.lake.read import table

    columns = ("window_id", "title_id", "market", "opens_at", "closes_at", "revoked", "known_at", "superseded_at")
    return current_windows(table(settings, "marts.dim_licence_window", tag, columns, _before(split.judge_end)), split.judge_end)


def read_plays(settings: Settings, tag: str, split: TimeSplit) -> pa.Table:
    """Engaged plays of the retriever's span, sorted by profile and time, with what their profiles declared."""
    from jobs.lake.read import table

    before = _before(split.retriever_end)
    plays = table(settings, "marts.fct_play", tag, ("event_id", "profile_id", "title_id", "event_time", "engaged"),
                  f"{before} and event_time < '{split.retriever_end.isoformat()}'")
    profiles = table(settings, "marts.dim_profile_version", tag, ("profile_id", "market", "is_kids", "known_at"), before)
    return join_profiles(plays, profiles)


def join_profiles(plays: pa.Table, profiles: pa.Table) -> pa.Table:
    """Engaged plays with the newest known market and kids flag of their profile (null: none known)."""
    profiles = profiles.sort_by([("profile_id", "ascending"), ("known_at", "ascending")])
    ids = profiles["profile_id"].to_numpy(zero_copy_only=False)
    last = [i for i in range(len(ids)) if i + 1 == len(ids) or ids[i] != ids[i + 1]]
    profiles = profiles.take(pa.array(last, pa.int64())).select(["profile_id", "market", "is_kids"])
    joined = plays.filter(pc.fill_null(plays["engaged"], False)).join(profiles, "profile_id", join_type="left outer")
    return joined.sort_by([(name, "ascending") for name in ("profile_id", "event_time", "event_id")])


def _before(moment: datetime) -> str:
    return f"known_at < '{moment.isoformat()}'"

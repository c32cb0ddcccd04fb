"""Eligibility, against the plainest reading of the log: who may see what, when; closed where in doubt."""

from hypothesis import given
from hypothesis import strategies as st

from contracts.eligibility import FAR, NEVER_MATURITY, Eligibility, Record, field_names, search_filter, still_holds

TITLE_IDS, MARKETS, WINDOWS = ("a", "b"), ("nl", "de"), ("w1", "w2", "w3")
MOMENTS = st.integers(0, 30)


@st.composite
def logs(draw) -> list[Record]:
    """Some versions of a few titles and windows, numbered."""
    records = []
    for seq in range(1, draw(st.integers(0, 14)) + 1):
        title = draw(st.sampled_from(TITLE_IDS))
        if draw(st.booleans()):
            records.append(Record(seq, "title", title, maturity=draw(st.none() | st.integers(0, 18))))
        else:
            records.append(Record(seq, "licence", title, window_id=draw(st.sampled_from(WINDOWS)), market=draw(st.sampled_from(MARKETS)),
                                  opens_at=draw(MOMENTS), closes_at=draw(MOMENTS | st.just(FAR)), revoked=draw(st.booleans())))
    return records


def oracle(log: list[Record], title: str, market: str, limit: int, at: int) -> bool:
    """The newest version of the title suits, and the newest version of some window is open."""
    versions = [r for r in log if r.kind == "title" and r.title_id == title]
    if not versions or versions[-1].maturity is None or versions[-1].maturity > limit:
        return False
    windows = {r.window_id: r for r in log if r.kind == "licence" and (r.title_id, r.market) == (title, market)}
    return any(not r.revoked and r.opens_at <= at < r.closes_at for r in windows.values())


def applied(log: list[Record]) -> Eligibility:
    known = Eligibility()
    known.apply(log)
    return known


@given(logs(), st.sampled_from(TITLE_IDS), st.sampled_from(MARKETS), st.integers(0, 18), MOMENTS)
def test_it_agrees_with_the_log_read_plainly(log, title, market, limit, at):
    assert (applied(log).why_not(title, market, limit, at) is None) == oracle(log, title, market, limit, at)


@given(logs(), st.integers(0, 14))
def test_the_log_in_parts_or_twice_is_the_log(log, cut):
    known = Eligibility()
    known.apply(log[:cut])
    known.apply(log)
    known.apply(log[:cut])
    assert known == applied(log)
    assert known.seq == (log[-1].seq if log else 0)


@given(logs(), st.sampled_from(TITLE_IDS), st.sampled_from(MARKETS), MOMENTS)
def test_the_search_fields_never_show_more_than_the_guard_and_no_less_today(log, title, market, at):
    """The window that the vector collection holds is open exactly when the guard finds one open."""
    known = applied(log)
    window = known.window(title, market, at)
    shown = window is not None and window[0] <= at < window[1]
    spans = known.windows.get((title, market), {}).values()
    assert shown == any(opens <= at < closes for opens, closes in spans)
    if window:
        assert at < window[1], "the current window or the next, never one that passed"


@given(logs(), st.sampled_from(TITLE_IDS), st.sampled_from(MARKETS), MOMENTS, st.integers(0, 17))
def test_a_stricter_profile_never_sees_more(log, title, market, at, limit):
    known = applied(log)
    if known.why_not(title, market, limit, at) is None:
        assert known.why_not(title, market, limit + 1, at) is None


def test_every_reason():
    known = applied([
        Record(1, "title", "no_maturity"), Record(2, "title", "adult", maturity=16), Record(3, "title", "unlicensed", maturity=0),
        Record(4, "title", "closed", maturity=0), Record(5, "licence", "closed", window_id="w", market="nl", opens_at=5, closes_at=9),
    ])
    reasons = {t: known.why_not(t, "nl", 7, 9) for t in ("stranger", "no_maturity", "adult", "unlicensed", "closed")}
    assert reasons == {"stranger": "unknown_title", "no_maturity": "unknown_maturity", "adult": "above_maturity",
                       "unlicensed": "no_licence", "closed": "outside_window"}
    assert [known.why_not("closed", "nl", 7, at) for at in (4, 5, 8, 9)] == ["outside_window", None, None, "outside_window"]


def test_touching_windows_are_one_and_empty_ones_none():
    known = applied([
        Record(1, "licence", "a", window_id="w1", market="nl", opens_at=0, closes_at=5),
        Record(2, "licence", "a", window_id="w2", market="nl", opens_at=5, closes_at=9),
        Record(3, "licence", "a", window_id="w3", market="nl", opens_at=20, closes_at=12),
    ])
    assert known.window("a", "nl", 2) == (0, 9)
    assert known.window("a", "nl", 9) is None
    assert known.markets() == ["nl"]


@given(logs(), st.sampled_from(TITLE_IDS), st.sampled_from(MARKETS), MOMENTS, MOMENTS, st.none() | st.tuples(MOMENTS, MOMENTS))
def test_a_window_that_still_holds_hides_no_licensed_moment(log, title, market, at, later, indexed):
    """Indexed by this log or by any other: what is called findable is found whenever it is licensed."""
    known, moment = applied(log), at + later
    for window in (indexed, known.window(title, market, at)):
        finds = window is not None and window[0] <= moment < window[1]
        if still_holds(window, known.spans(title, market, at), at):
            spans = known.windows.get((title, market), {}).values()
            assert finds or not any(opens <= moment < closes for opens, closes in spans)


def test_one_window_as_indexed_still_holds_and_a_second_does_not():
    known = applied([Record(1, "licence", "a", window_id="w1", market="nl", opens_at=5, closes_at=9)])
    assert still_holds((5, 9), known.spans("a", "nl", 2), 2)
    assert still_holds((0, 99), known.spans("a", "nl", 2), 2), "closed early: the guard removes it"
    assert not still_holds(None, known.spans("a", "nl", 2), 2)
    assert not still_holds((6, 9), known.spans("a", "nl", 2), 2)
    assert still_holds((6, 9), known.spans("a", "nl", 7), 7)
    assert still_holds(None, known.spans("a", "nl", 9), 9)
    known.apply([Record(2, "licence", "a", window_id="w2", market="nl", opens_at=20)])
    assert not still_holds((5, 9), known.spans("a", "nl", 2), 2)


def test_the_filter_is_what_the_collection_understands():
    assert field_names("nl") == ("opens_nl", "closes_nl")
    assert search_filter("nl", 7, 100) == "maturity <= 7 and opens_nl <= 100 and closes_nl > 100"
    assert NEVER_MATURITY > 18

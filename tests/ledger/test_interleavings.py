"""Two promoters, a roll-back, launches, an expired probe and garbage collection, in every order that Hypothesis thinks of."""

from itertools import count

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.ledger.interleaved import ACTORS, Choice, play, template

EXAMPLES = 120
NUMBERS = count()

choices = st.builds(
    Choice, st.lists(st.integers(0, len(ACTORS) - 1), max_size=60).map(tuple),
    st.tuples(st.booleans(), st.booleans(), st.booleans()), st.tuples(st.booleans(), st.booleans(), st.booleans()))


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return template(tmp_path_factory.mktemp("template") / "home")


@settings(max_examples=EXAMPLES, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
@given(choices)
def test_no_order_of_their_transactions_breaks_an_invariant(home, tmp_path_factory, choice):
    with pytest.MonkeyPatch.context() as patch:
        play(home, tmp_path_factory.getbasetemp() / f"interleaved{next(NUMBERS)}", choice, patch)

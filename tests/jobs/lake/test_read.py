"""What a read of the lake looks like, whoever wrote it."""

import pyarrow as pa

from jobs.lake import read


def test_strings_and_lists_have_one_kind_whoever_wrote_them():
    """Arrow joins no string with a large one: the judge crashed on rows that another writer had replaced."""
    large = pa.table({"id": pa.array(["a", None], pa.large_string()), "genres": pa.array([["x"], []], pa.large_list(pa.large_string())),
                      "n": pa.array([1, 2], pa.int32())})
    plain = read._plain(large)
    assert plain.schema.types == [pa.string(), pa.list_(pa.string()), pa.int32()]
    assert plain.to_pylist() == large.to_pylist()
    other = pa.table({"id": pa.array(["a"], pa.string()), "m": [7]})
    assert plain.select(["id", "n"]).join(other, "id", join_type="inner").to_pylist() == [{"id": "a", "n": 1, "m": 7}]

"""The physical Milvus collections of a release (one for each group of markets): caches that can be made again from its
files. They hold the base and never change; titles that arrive or change later are in the overlay (jobs/release/overlay.py).
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from pymilvus import DataType, MilvusClient
from pymilvus.exceptions import MilvusException

from contracts.eligibility import FAR, NEVER_MATURITY, Eligibility, field_names
from contracts.errors import MarqueeError
from contracts.landing import LONGEST_ID
from contracts.settings import Settings

ID_LENGTH = 4 * LONGEST_ID  # Milvus counts bytes of UTF-8


@dataclass(frozen=True)
class Rows:
    """What a collection must hold: T titles with a vector and scalar fields (T,) int64 by name."""

    title_ids: list[str]
    vectors_TD: np.ndarray
    scalars: dict[str, np.ndarray]

    def __len__(self) -> int:
        return len(self.title_ids)

    @property
    def markets(self) -> list[str]:
        prefix = field_names("")[0]
        return [field.removeprefix(prefix) for field in self.scalars if field.startswith(prefix)]

    def of_markets(self, markets: Sequence[str]) -> "Rows":
        """The same titles with the windows of some markets."""
        fields = ("maturity", *(field for market in markets for field in field_names(market)))
        return replace(self, scalars={field: self.scalars[field] for field in fields})


def collection_rows(
    title_ids: list[str], vectors_TD: np.ndarray, state: Eligibility, at: int, markets: Sequence[str] | None = None
) -> Rows:
    """Maturity (unknown: above every limit) and each market's current or next window as of `at` (epoch seconds);
    where there is none, one that never opens. `markets`: those that the state knows."""
    maturity = [state.maturity.get(title) for title in title_ids]
    scalars = {"maturity": np.array([NEVER_MATURITY if m is None else m for m in maturity], np.int64)}
    for market in state.markets() if markets is None else markets:
        spans = [state.window(title, market, at) or (FAR, 0) for title in title_ids]
        opens, closes = field_names(market)
        scalars[opens], scalars[closes] = np.array(spans, np.int64).reshape(-1, 2).T
    return Rows(title_ids, vectors_TD, scalars)


def connect(settings: Settings) -> MilvusClient:
    """Raises MarqueeError where no Milvus answers."""
    try:
        client = MilvusClient(**settings.milvus_connection(), timeout=30)
        client.list_collections()
    except MilvusException as error:
        raise MarqueeError(f"no Milvus answers at {settings.milvus_address()}: start it (`marquee up`) or set MARQUEE_MILVUS_URL") from error
    return client


def load(
    client: MilvusClient, name: str, rows: Rows, batch: int, users: Sequence[str] = (),
    watch: Callable[[Iterable], Iterable] = lambda steps: steps,
) -> None:
    """Makes the collection anew. Raises MarqueeError where it is there and in use: by one of `users`, or by an alias."""
    if client.has_collection(name):
        users = [*users, *(f"alias {alias}" for alias in client.list_aliases(collection_name=name).get("aliases", []))]
        if users:
            raise MarqueeError(f"collection {name} is not what its release says, but in use by {', '.join(users)}: "
                               "not replaced; roll back first, then run `marquee index` again")
        client.drop_collection(name)
    schema = client.create_schema(auto_id=False, enable_dynamic_field=False)
    schema.add_field("title_id", DataType.VARCHAR, is_primary=True, max_length=ID_LENGTH)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=rows.vectors_TD.shape[1])
    for field in rows.scalars:
        schema.add_field(field, DataType.INT64)
    index = client.prepare_index_params()
    # FLAT: HNSW and IVF on Lite return too few under tight filters
    index.add_index(field_name="vector", index_type="FLAT", metric_type="IP")
    client.create_collection(name, schema=schema, consistency_level="Strong")  # without an index nobody can load half of it
    for start in watch(range(0, len(rows), batch)):
        client.insert(name, [_row(rows, i) for i in range(start, min(start + batch, len(rows)))])
    client.flush(name)
    client.create_index(name, index)
    client.load_collection(name)


def _row(rows: Rows, i: int) -> dict:
    scalars = {field: int(values[i]) for field, values in rows.scalars.items()}
    return {"title_id": rows.title_ids[i], "vector": rows.vectors_TD[i].tolist(), **scalars}

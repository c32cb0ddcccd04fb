"""MovieLens as the files that these benchmarks read.

    python -m bench.retrieval.movielens --ml-1m FOLDER --splits FILE.parquet --out FOLDER
    python -m bench.retrieval.movielens --small FOLDER --out FOLDER

Of MovieLens-1M on the published leave-last-out split (`sas_pos`, `sas_role`): `ids.parquet`, whose only order is the
published one; `full.parquet`, with times that never run against that order, and ratings; `titles.parquet` and
`profiles.parquet`. Of ml-latest-small: `small.parquet` and `small-titles.parquet`; a tag may be later than what is asked
for, so that none is used.
"""

import argparse
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from bench.retrieval.data import ROLES
from contracts.errors import UsageError
from jobs.sources import movielens


def main() -> None:
    parser = argparse.ArgumentParser("python -m bench.retrieval.movielens", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ml-1m", type=Path, help="GroupLens' folder: ratings.dat, movies.dat, users.dat, perhaps dbpedia_abstracts.json")
    parser.add_argument("--splits", type=Path, help="its rows with sas_pos and sas_role")
    parser.add_argument("--small", type=Path, help="GroupLens' folder of ml-latest-small")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    if bool(options.ml_1m) != bool(options.splits) or not (options.ml_1m or options.small):
        parser.error("give --ml-1m with --splits, or --small, or all three")
    options.out.mkdir(parents=True, exist_ok=True)
    try:
        if options.ml_1m:
            ml_1m(options.ml_1m, options.splits, options.out)
        if options.small:
            small(options.small, options.out)
    except UsageError as error:
        raise SystemExit(f"bench.retrieval.movielens: {error}") from None


def ml_1m(folder: Path, splits: Path, out: Path) -> None:
    source = movielens.read(folder)
    rows = pq.read_table(splits, columns=["user", "item", "rating", "ts_est", "sas_pos", "sas_role"]).to_pandas()
    rows = rows[rows.sas_role.isin(list(ROLES))].sort_values(["user", "sas_pos"], kind="stable")
    named = rows.rename(columns={"user": "profile_id", "item": "title_id", "sas_role": "role"})
    _write(out / "ids.parquet", named[["profile_id", "title_id", "role"]].assign(ts=rows.sas_pos))
    _write(out / "full.parquet", named[["profile_id", "title_id", "rating", "role"]].assign(ts=rows.groupby("user").ts_est.cummax()))
    pq.write_table(_titles(source, set(rows["item"])), out / "titles.parquet")
    said = [{"profile_id": user, **dict(word.split("=", 1) for word in words)} for user, words in source.attributes.items()]
    pq.write_table(pa.Table.from_pylist(said), out / "profiles.parquet")


def small(folder: Path, out: Path) -> None:
    source = movielens.read(folder)
    ratings = source.ratings
    pq.write_table(pa.table({"profile_id": ratings.user, "title_id": ratings.movie, "rating": ratings.rating, "ts": ratings.second}),
                   out / "small.parquet")
    pq.write_table(_titles(source, set(ratings.movie.tolist())), out / "small-titles.parquet")


def _titles(source: movielens.Source, wanted: set[int]) -> pa.Table:
    return pa.Table.from_pylist([
        {"title_id": movie.movie_id, "name": movie.name, "year": movie.year, "genres": movie.genres, "synopsis": movie.synopsis}
        for movie in source.movies.values() if movie.movie_id in wanted
    ])


def _write(path: Path, frame) -> None:
    table = pa.Table.from_pandas(frame, preserve_index=False)
    pq.write_table(table.set_column(table.column_names.index("role"), "role", pc.cast(table["role"], pa.string())), path)


if __name__ == "__main__":
    main()

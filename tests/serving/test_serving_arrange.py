import random

from serving.arrange import MAX_RUN_OF_GENRE, MAX_RUN_OF_SERIES, Pick, arrange, fill, interleave


def test_the_best_come_first_and_equal_scores_keep_one_order():
    picks = [Pick(f"t{i}", "retrieval", score) for i, score in enumerate([0.1, 0.9, 0.5, 0.9])]
    for seed in range(5):
        shuffled = random.Random(seed).sample(picks, len(picks))
        assert [p.title_id for p in arrange(shuffled, 3)] == ["t1", "t3", "t2"]


def test_runs_of_a_series_or_a_genre_are_broken_where_there_is_something_else():
    same = [Pick(f"a{i}", "retrieval", 1 - i / 100, series="s", genre="drama") for i in range(8)]
    other = [Pick(f"b{i}", "retrieval", 0.1 - i / 100, genre="comedy") for i in range(8)]
    shelf = arrange([*same, *other], 12)
    runs = [[p.series for p in shelf[i:i + MAX_RUN_OF_SERIES + 1]] for i in range(len(shelf) - MAX_RUN_OF_SERIES)]
    assert ["s"] * (MAX_RUN_OF_SERIES + 1) not in runs
    genres = [p.genre for p in shelf]
    assert all(len(set(genres[i:i + MAX_RUN_OF_GENRE + 1])) > 1 for i in range(len(genres) - MAX_RUN_OF_GENRE))


def test_nothing_is_lost_where_there_is_only_one_series():
    only = [Pick(f"a{i}", "retrieval", -i, series="s", genre="drama") for i in range(9)]
    assert [p.title_id for p in arrange(only, 20)] == [p.title_id for p in only]


def test_fill_adds_no_title_twice_and_stops_at_size():
    shelf = fill([Pick("a", "retrieval", 1.0)], ["a", "b", "b", "c", "d"], 3, "fallback")
    assert [(p.title_id, p.source) for p in shelf] == [("a", "retrieval"), ("b", "fallback"), ("c", "fallback")]


def test_interleave_takes_turns_and_keeps_the_rest():
    ranked, popular = ([Pick(t, source) for t in names] for names, source in (("abcd", "retrieval"), ("xa", "fallback")))
    assert [p.title_id for p in interleave(ranked, popular, 9)] == ["x", "a", "b", "c", "d"]
    assert interleave([], [], 9) == []

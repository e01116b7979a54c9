"""What is counted over a run, and taken back by a resume."""

from __future__ import annotations

import pytest

from esper.karn.bounds import Room
from esper.karn.totals import Totals
from esper.leyline.position import Position


def place(batch_begins: int | None, episode: int | None) -> Position:
    return Position(0, 0, 0, None, batch_begins, episode)


def counted(totals: Totals, *episodes: int) -> Totals:
    for episode in episodes:
        counts = totals.at(place(0, episode))
        totals.add_action("WAIT", counts)
        totals.add_seed("mlp", 0, counts)
        if counts is not None:
            counts.events += 1
    return totals


def test_what_is_about_one_episode_counts_there_and_what_is_about_a_batch_at_its_beginning() -> None:
    totals = Totals(None, Room(9))
    for batch_begins, episode in ((4, 5), (4, None), (None, 6)):
        assert totals.at(place(batch_begins, episode)) is not None
    assert totals.at(place(None, None)) is None
    assert (totals.order, sorted(totals.episodes)) == ([4, 5, 6], [4, 5, 6])


def test_a_resume_takes_back_all_that_was_counted_since() -> None:
    room = Room(9)
    totals = counted(Totals(None, room), 0, 1, 1, 1, 2)
    assert (totals.take_back(1), totals.actions, totals.lifecycle) == (4, {"WAIT": 1}, {"mlp": [1, 0, 0, 0, 0]})
    assert room.left == 7
    assert (totals.take_back(0), totals.actions, totals.lifecycle, room.left) == (1, {}, {}, 9)
    assert totals.counted_from == 0


@pytest.mark.parametrize(("episode", "counted_from", "left"), [(3, 0, 3), (2, 0, 2), (1, 1, 0), (0, 0, 0)])
def test_so_many_episodes_are_kept_and_from_further_back_the_totals_begin_anew(
    episode: int, counted_from: int, left: int
) -> None:
    totals = counted(Totals(2, Room(9)), 0, 1, 2, 3)
    assert (totals.order, totals.forgotten) == ([2, 3], 1)
    assert totals.at(place(0, 1)) is None
    assert totals.at(place(0, 0)) is None
    totals.take_back(episode)
    assert (totals.counted_from, sum(totals.actions.values())) == (counted_from, left)


def test_a_second_run_forgets_what_the_first_one_has_forgotten() -> None:
    totals = counted(Totals(1, Room(2)), 5, 6)
    totals.begin(6)
    assert totals.counted_from == 6
    totals.clear()
    assert (totals.counted_from, totals.actions, totals.room.left) == (0, {}, 2)
    assert totals.at(place(0, 2)) is not None

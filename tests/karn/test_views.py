"""A look makes anew what has changed since the last one, and hands the rest out again."""

from __future__ import annotations

import pytest

from esper.karn.bounds import FullError, Room
from esper.karn.views import Views


def views(room: int = 10) -> Views[int, list[int], tuple[int, ...]]:
    return Views(Room(room), lambda name: [name], lambda growing: tuple(growing) or None, sorted)


def test_what_has_not_changed_is_handed_out_again_and_what_was_seen_stays() -> None:
    grown = views()
    grown.change(2)
    grown.change(1)
    before = grown.view()
    assert grown.view() is before
    grown.change(1).append(5)
    after = grown.view()
    assert dict(before) == {1: (1,), 2: (2,)}
    assert dict(after) == {1: (1, 5), 2: (2,)}
    assert after[2] is before[2]


def test_names_stand_in_their_order_whenever_they_are_first_seen() -> None:
    grown = views()
    for name in (3, 1, 2):
        grown.change(name)
        grown.view()
    assert list(grown.view()) == [1, 2, 3]


def test_what_was_taken_back_is_not_seen_until_it_is_there_again() -> None:
    grown = views()
    for name in (1, 2):
        grown.change(name)
    grown.view()
    grown.all[1].clear()
    grown.change_all()
    assert list(grown.view()) == [2]
    grown.change(1).append(7)
    assert list(grown.view().items()) == [(1, (7,)), (2, (2,))]


def test_where_there_is_no_room_nothing_begins() -> None:
    grown = views(room=1)
    grown.change(1)
    with pytest.raises(FullError):
        grown.change(2)
    assert list(grown.view()) == [1]
    assert 2 not in grown.all

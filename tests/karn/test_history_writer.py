"""A history is the newest so many events, less what was taken back, however it is kept."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.builders import event

from esper.karn.history_writer import HistoryWriter
from esper.karn.snapshot import EntryHistory
from esper.leyline.position import Position
from esper.leyline.telemetry import PPOUpdatePayload, TelemetryEvent

ABOUT = st.none() | st.integers(0, 6)
STEPS = st.lists(st.tuples(st.sampled_from(["append", "append", "append", "look", "take back"]), ABOUT), max_size=40)


@given(STEPS, st.sampled_from([None, 1, 2, 3]))
def test_a_history_holds_what_a_plain_list_would(steps: list[tuple[str, int | None]], bound: int | None) -> None:
    history, model = HistoryWriter[PPOUpdatePayload](bound), list[tuple[TelemetryEvent, Position]]()
    looks: list[tuple[EntryHistory[PPOUpdatePayload], tuple[tuple[TelemetryEvent, Position], ...]]] = []
    for what, about in steps:
        if what == "append":
            made, position = event(PPOUpdatePayload), Position(0, 0, 0, None, about)
            history.append(made, position)
            model.append((made, position))
            if bound is not None:
                del model[:-bound]
        elif what == "look":
            looks.append((history.view(), tuple(model)))
            newest = history.newest()
            assert (newest and (newest.event, newest.position)) == (model[-1] if model else None)
        elif about is not None:
            history.take_back(about)
            model = [(made, position) for made, position in model if not position.is_from(about)]
    looks.append((history.view(), tuple(model)))
    for view, then in looks:
        assert tuple((entry.event, entry.position) for entry in view) == then
    newest = history.newest()
    assert (newest and (newest.event, newest.position)) == (model[-1] if model else None)


def history_of(*abouts: int | None, bound: int | None = None) -> HistoryWriter[PPOUpdatePayload]:
    history = HistoryWriter[PPOUpdatePayload](bound)
    for about in abouts:
        history.append(event(PPOUpdatePayload), Position(0, 0, 0, None, about))
    return history


@pytest.mark.parametrize(
    ("abouts", "first", "later", "second", "left"),
    [
        ([None, None, 5, 2], 4, 3, 2, [None, None]),
        ([1, 6, 2, 8], 7, 6, 3, [1, 2]),
        ([1, 5, 3], 5, 4, 3, [1]),
    ],
)
def test_what_is_left_of_a_history_that_was_out_of_order_is_taken_back_as_it_is(
    abouts: list[int | None], first: int, later: int, second: int, left: list[int | None]
) -> None:
    history = history_of(*abouts)
    history.take_back(first)
    history.append(event(PPOUpdatePayload), Position(0, 0, 0, None, later))
    history.take_back(second)
    assert [entry.position.about for entry in history.view()] == left


def test_lists_that_a_view_shares_grow_to_twice_their_bound_and_are_left_to_it_then() -> None:
    history = history_of(*range(9), bound=4)
    assert len(history.events) == 4
    history.view()
    shared = history.events
    for about in range(9, 13):
        history.append(event(PPOUpdatePayload), Position(0, 0, 0, None, about))
        assert history.events is shared
    history.append(event(PPOUpdatePayload), Position(0, 0, 0, None, 13))
    assert history.events is not shared
    assert (len(shared), len(history.events)) == (8, 4)

"""A history is the newest so many events, less what was taken back, however it is kept."""

from __future__ import annotations

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
        elif about is not None:
            history.take_back(about)
            model = [(made, position) for made, position in model if not position.is_from(about)]
    looks.append((history.view(), tuple(model)))
    for view, then in looks:
        assert tuple((entry.event, entry.position) for entry in view) == then
    newest = history.newest()
    assert (newest and (newest.event, newest.position)) == (model[-1] if model else None)

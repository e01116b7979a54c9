"""The screens that open over the main one: details, the inspector, the log's filter, help."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, TypeAlias, get_args

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.screen import ModalScreen, Screen
from textual.widgets import Footer, Input, Label

from esper.karn.dashboard.env_detail import env_detail
from esper.karn.dashboard.following import Filter
from esper.karn.dashboard.inspector import inspect_record
from esper.karn.dashboard.overview import WIDE, status_line
from esper.karn.dashboard.rows import Lines, Row, Rows, Viewing, heading, line
from esper.leyline.event_types import Severity, TelemetryEventType

if TYPE_CHECKING:
    from esper.karn.dashboard.feed import Record
    from esper.karn.dashboard.following import View

__all__ = ["Columns", "Detail", "EnvDetail", "FilterDialog", "Inspector", "Reading", "Shown"]

Columns: TypeAlias = "Callable[[View, int], tuple[list[Row], list[Row]]]"
"""Makes both columns of a detail from the view and the room for each; the right one is empty where it needs none."""


class Shown(Screen[None]):
    """A screen that shows a view, again and again."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "app.pop_screen", "Back")]

    def refresh_view(self, view: View) -> None:
        """Show what is to be seen now."""
        for rows in self.query(Viewing):
            rows.refresh_view(view)


class Detail(Shown):
    """Two lists side by side where there is room, else one below the other."""

    def __init__(self, build: Columns) -> None:
        super().__init__()
        self.build = build

    def compose(self) -> ComposeResult:
        """Make the widgets."""
        yield Lines(status_line, id="status", focusable=False)
        with Horizontal(id="columns"):
            yield Lines(self._left, id="left")
            yield Lines(self._right, id="right")
        yield Footer(compact=True, show_command_palette=False)

    def refresh_view(self, view: View) -> None:
        """Show what is to be seen now."""
        for right in self.query("#right"):
            right.display = self.size.width >= WIDE and bool(self.build(view, self.size.width // 2)[1])
        super().refresh_view(view)

    def _left(self, view: View, width: int, _height: int) -> list[Row]:
        left, right = self.build(view, width)
        return left if self.size.width >= WIDE or not right else [*left, Row(), *right]

    def _right(self, view: View, width: int, _height: int) -> list[Row]:
        return self.build(view, width)[1] if self.size.width >= WIDE else []


class EnvDetail(Detail):
    """One environment; the arrow keys go to its neighbours."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left", "step(-1)", "Prev"),
        Binding("right", "step(1)", "Next"),
    ]

    def __init__(self, env_id: int) -> None:
        super().__init__(lambda view, width: env_detail(view, self.env_id, width))
        self.env_id = env_id
        self._env_ids: list[int] = [env_id]

    def refresh_view(self, view: View) -> None:
        """Show what is to be seen now."""
        if view.group is not None:
            self._env_ids = list(view.group.envs)
        super().refresh_view(view)

    def action_step(self, by: int) -> None:
        """Go to a neighbour."""
        if self.env_id in self._env_ids:
            self.env_id = self._env_ids[(self._env_ids.index(self.env_id) + by) % len(self._env_ids)]
            self.app.refresh_shown()  # type: ignore[attr-defined]  # the dashboard


class Reading(ModalScreen[None]):
    """Rows that stay as they are, to be read."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q", "app.pop_screen", "Back")]

    def __init__(self, build: Callable[[int], list[Row]]) -> None:
        super().__init__()
        self._rows = build

    def compose(self) -> ComposeResult:
        """Make the widgets."""
        yield Rows(id="reading")
        yield Footer(compact=True, show_command_palette=False)

    def on_mount(self) -> None:
        """Fill in the text once its width is known."""
        self.call_after_refresh(self.fill)

    def on_resize(self) -> None:
        """Wrap the text anew."""
        self.call_after_refresh(self.fill)

    def fill(self) -> None:
        """Show the rows."""
        rows = self.query_one(Rows)
        rows.show(self._rows(rows.columns))


class Inspector(Reading):
    """One event in full; the arrow keys go through those that the log showed."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left", "step(-1)", "Newer"),
        Binding("right", "step(1)", "Older"),
    ]

    def __init__(self, record: Record, log: Sequence[Record]) -> None:
        super().__init__(lambda width: inspect_record(self.record, width))
        self.record = record
        self._log = log

    def action_step(self, by: int) -> None:
        """Go to a neighbour in the log."""
        at = next((index for index, record in enumerate(self._log) if record is self.record), None)
        if at is not None and 0 <= at + by < len(self._log):
            self.record = self._log[at + by]
            self.query_one(Rows).scroll_home(animate=False)
            self.fill()


class FilterDialog(ModalScreen[Filter]):
    """Chooses which events the log shows."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,f", "leave", "Done"),
        Binding("space", "choose", "Choose"),
        Binding("a", "all", "All"),
        Binding("tab", "app.focus_next", "Environments"),
    ]

    def __init__(self, chosen: Filter) -> None:
        super().__init__()
        self._chosen = chosen

    def compose(self) -> ComposeResult:
        """Make the widgets."""
        envs = self._chosen.envs
        with Vertical(id="filter"):
            yield Rows(id="choices")
            with Horizontal(id="of-envs"):
                yield Label(" ENVIRONMENTS ")
                yield Input(
                    "" if envs is None else ",".join(map(str, sorted(envs))),
                    placeholder="all, or numbers: 0,3",
                    max_length=1000,
                    compact=True,
                )
        yield Footer(compact=True, show_command_palette=False)

    def on_mount(self) -> None:
        """Show what is chosen."""
        self._show()

    def _show(self) -> None:
        chosen = self._chosen
        self.query_one(Rows).show(
            [
                heading("TYPES", "others are shown from warning on"),
                *(
                    line(f" [{'x' if kind in chosen.types else ' '}] {kind.name}", opens=kind)
                    for kind in TelemetryEventType
                ),
                heading("SEVERITY", "and what is more urgent"),
                *(
                    line(f" ({'•' if level == chosen.severity else ' '}) {level}", opens=level)
                    for level in get_args(Severity)
                ),
            ]
        )

    @on(Rows.Chosen)
    def choose(self, event: Rows.Chosen) -> None:
        """Take a type in or out, or another severity."""
        event.stop()
        if isinstance(event.opens, TelemetryEventType):
            self._chosen = replace(self._chosen, types=self._chosen.types ^ {event.opens})
        else:
            severity = next(level for level in get_args(Severity) if level == event.opens)
            self._chosen = replace(self._chosen, severity=severity)
        self._show()

    def action_choose(self) -> None:
        """Choose what the cursor stands on."""
        self.query_one(Rows).action_choose()

    def action_all(self) -> None:
        """Show everything."""
        self.dismiss(Filter(get_args(Severity)[0], None, frozenset(TelemetryEventType)))

    @on(Input.Submitted)
    def accept(self) -> None:
        """Filter as chosen, or say what is wrong with it."""
        envs = self._envs()
        if envs is None:
            self.notify("Environments: numbers, with commas between them", severity="error", markup=False)
        else:
            self.dismiss(replace(self._chosen, envs=envs or None))

    def action_leave(self) -> None:
        """Filter as chosen; by the environments of before where what was typed names none."""
        envs = self._envs()
        self.dismiss(self._chosen if envs is None else replace(self._chosen, envs=envs or None))

    def _envs(self) -> frozenset[int] | None:
        numbers = self.query_one(Input).value.replace(",", " ").split()
        return frozenset(map(int, numbers)) if all(number.isdecimal() for number in numbers) else None

"""The dashboard: one screen that answers at a glance, and details a key away."""

from __future__ import annotations

import asyncio
import traceback
from datetime import UTC, datetime
from pathlib import Path
from typing import ClassVar

from rich.text import Text
from textual import on, work
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container
from textual.widgets import Footer

from esper.karn.dashboard.charts import LEAST_CHART, all_charts, chart_rows, charts_height
from esper.karn.dashboard.env_rows import MANY, EnvRows, env_heading
from esper.karn.dashboard.feed import Record
from esper.karn.dashboard.following import Filter, FollowedRun, View
from esper.karn.dashboard.help_text import help_rows
from esper.karn.dashboard.overview import WIDE, EventRows, event_heading, status_line
from esper.karn.dashboard.ppo_detail import ppo_detail
from esper.karn.dashboard.rows import Lines, Row, Rows
from esper.karn.dashboard.run_detail import run_detail
from esper.karn.dashboard.screens import Columns, Detail, EnvDetail, FilterDialog, Inspector, Reading, Shown
from esper.karn.dashboard.standing import standing_rows, troubles
from esper.karn.formatting import tidy
from esper.leyline.telemetry import TelemetryEvent
from esper.leyline.wire import InvalidRecord

__all__ = ["Dashboard", "Overview"]


class Overview(Shown):
    """The main screen."""

    AUTO_FOCUS = "#envs"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "zoom(False)", "Back", show=False),
        Binding("z", "zoom", "Zoom", show=False),
        Binding("f", "app.filter", "Filter", show=False),
        Binding("o", "app.order", "Order"),
        Binding("1", "app.trouble(0)", "First event", key_display="1-9"),
        *(Binding(str(at + 1), f"app.trouble({at})", show=False) for at in range(1, 9)),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._standing = Lines(self._standing_rows, id="standing")
        self._charts = Lines(chart_rows, id="charts", focusable=False)
        self._envs = Container(
            Lines(env_heading, id="env-heading", focusable=False), EnvRows(id="envs"), id="env-section"
        )
        self._rows: list[Row] = []

    def compose(self) -> ComposeResult:
        """Make the widgets."""
        yield Lines(status_line, id="status", focusable=False)
        yield self._standing
        yield self._charts
        yield self._envs
        with Container(id="event-section"):
            yield Lines(event_heading, id="event-heading", focusable=False)
            yield EventRows(id="events")
        yield Footer(compact=True, show_command_palette=False)

    def refresh_view(self, view: View) -> None:
        """Give each section its room, and show what is to be seen now."""
        self._divide(view)
        super().refresh_view(view)

    def _standing_rows(self, view: View, width: int, height: int) -> list[Row]:
        return self._rows if len(self._rows) == height else standing_rows(view, width, height)

    def _divide(self, view: View) -> None:
        """Divide the lines there are: troubles in full first, then charts, then environments and events."""
        width, lines = self.size.width, max(self.size.height - 2, 0)
        most = max(2 * lines // 5, 4)
        self._rows = standing_rows(view, width, most)
        standing = min(len(self._rows), most)
        n_envs = 0 if view.group is None else len(view.group.envs)
        envs = min(1 + n_envs + (n_envs >= MANY), max(lines // 4, 5)) if n_envs else 0
        charts = lines - standing - envs - max(lines // 6, 3)
        useful = charts_height(view, width)
        charts = min(charts, useful) if charts >= LEAST_CHART else min(useful, 1)
        for section, size in ((self._standing, standing), (self._charts, charts), (self._envs, envs)):
            if section.styles.height is None or section.styles.height.value != size:
                section.styles.height = size
                section.display = size > 0

    def action_zoom(self, zoom: bool = True) -> None:
        """Give the environments or the events the whole screen, whichever has the focus, or take it back."""
        already = self.has_class("-zoom-envs") or self.has_class("-zoom-events")
        self.remove_class("-zoom-envs", "-zoom-events")
        if zoom and not already:
            self.add_class("-zoom-events" if isinstance(self.focused, EventRows) else "-zoom-envs")


class Dashboard(App[None]):
    """Shows what a feed brings, four times a second."""

    CSS_PATH = "dashboard.tcss"
    ENABLE_COMMAND_PALETTE = False
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (WIDE, "-wide")]  # noqa: RUF012 - Textual declares it so
    TITLE = "esper"
    PERIOD = 0.25
    """Seconds between two looks at the feed: half of what may pass until something that was emitted is seen."""
    SLICE = 0.05
    """Seconds that reading may take before the screen has its turn."""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("question_mark,f1", "help", "Help", key_display="?"),
        Binding("u", "health", "Health"),
        Binding("c", "charts", "Charts"),
        Binding("r", "run", "Run"),
        Binding("space", "hold", "Pause"),
        Binding("g", "group", "Group"),
        Binding("d", "dark", "Theme", show=False),
        Binding("s", "shot", "Shot", show=False),
        Binding("q", "quit", "Quit"),
    ]

    def __init__(self, following: FollowedRun) -> None:
        super().__init__()
        self.following = following
        self.view = following.view()

    def get_default_screen(self) -> Overview:
        """Return the main screen."""
        return Overview()

    def on_ready(self) -> None:
        """Begin to look."""
        self.follow()

    @work(exclusive=True)
    async def follow(self) -> None:
        """Read and show, over and over."""
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            more = self.following.advance()
            while more and loop.time() - began < self.SLICE:
                more = self.following.advance()
            self.refresh_shown()
            await asyncio.sleep(max(self.PERIOD - (loop.time() - began), 0.005) if not more else 0.005)

    def refresh_shown(self) -> None:
        """Show what is to be seen now, on the foremost screen that shows it."""
        before, self.view = self.view, self.following.view()
        if (len(before.snapshot.groups), len(troubles(before))) != (
            len(self.view.snapshot.groups),
            len(troubles(self.view)),
        ):
            self.refresh_bindings()
        for screen in reversed(self.screen_stack):  # empty while the program ends
            if isinstance(screen, Shown):
                screen.refresh_view(self.view)
                return

    @on(Rows.Chosen)
    def open(self, chosen: Rows.Chosen) -> None:
        """Open what was chosen."""
        if isinstance(chosen.opens, int):
            self.show_over(EnvDetail(chosen.opens))
        elif isinstance(chosen.opens, TelemetryEvent | InvalidRecord):
            self.open_record(chosen.opens)
        elif chosen.opens == "charts":
            self.action_charts()
        else:
            self.action_health()

    def open_record(self, record: Record) -> None:
        """Open an event, among those that the log shows or, if it is hidden there, among all that are kept."""
        shown = any(one is record for one in self.view.log)
        self.push_screen(Inspector(record, self.view.log if shown else self.following.log.everything()))

    def show_over(self, screen: Shown) -> None:
        """Open a screen, filled."""
        self.push_screen(screen)
        self.call_after_refresh(self.refresh_shown)

    def action_trouble(self, at: int) -> None:
        """Jump to the event that first showed a trouble; where there is none, to what is known of it."""
        first = troubles(self.view)[at].first
        if first is None:
            self.action_health()
        else:
            self.open_record(first)

    def action_health(self) -> None:
        """Open health up close."""
        self.show_detail(ppo_detail)

    def action_charts(self) -> None:
        """Open all charts."""
        self.show_detail(all_charts)

    def action_order(self) -> None:
        """List the environments in another order."""
        self.following.order = self.following.order.next
        self.refresh_shown()

    def action_run(self) -> None:
        """Open the run."""
        self.show_detail(run_detail)

    def show_detail(self, build: Columns) -> None:
        """Open a detail, in the place of another one that is open."""
        if type(self.screen) is not Detail:
            self.show_over(Detail(build))
        elif self.screen.build is not build:
            self.switch_screen(Detail(build))
            self.call_after_refresh(self.refresh_shown)

    def action_help(self) -> None:
        """Open the help."""
        self.push_screen(Reading(help_rows))

    def action_filter(self) -> None:
        """Choose which events the log shows."""

        def choose(chosen: Filter | None) -> None:
            if chosen is not None:
                self.following.log.choose(chosen)
                self.refresh_shown()

        self.push_screen(FilterDialog(self.following.log.chosen), choose)

    def action_hold(self) -> None:
        """Hold the screen still, or let it go on."""
        self.following.pause()
        self.refresh_shown()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Offer other groups, and first events of troubles, where there are any."""
        if action == "trouble":
            (at,) = parameters
            return isinstance(at, int) and at < len(troubles(self.view))
        return len(self.view.snapshot.groups) > 1 if action == "group" else super().check_action(action, parameters)

    def action_group(self) -> None:
        """Look at the next arm of an A/B comparison."""
        self.following.next_group()
        self.refresh_shown()

    def action_dark(self) -> None:
        """Change between dark and light."""
        self.theme = "textual-light" if self.current_theme.dark else "textual-dark"

    def action_shot(self) -> None:
        """Save what is on the screen as a picture."""
        name = f"esper-{datetime.now(UTC):%Y%m%d-%H%M%S}.svg"
        try:
            self.save_screenshot(name)
        except OSError as error:
            self.notify(f"{name}: {error.strerror}", severity="error", markup=False)
        else:
            self.notify(str(Path(name).absolute()), title="Screenshot", markup=False)

    async def action_quit(self) -> None:
        """Leave."""
        self.exit()

    def _fatal_error(self) -> None:
        """End at once, with a short traceback: Textual's own draws every local, and one of them is the whole run."""
        trace = traceback.format_exc(limit=-6).splitlines()
        self.panic(Text("\n".join(tidy(row, 200) for row in trace)))

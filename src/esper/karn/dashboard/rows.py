"""The one widget that everything is drawn with: lines of toned text, of which only those that changed are redrawn.

Stock tables cost most of a core at sixty-four environments; this costs a fraction.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple, TypeAlias

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from esper.leyline.printable import printable

if TYPE_CHECKING:
    from esper.karn.dashboard.following import View

__all__ = ["Lines", "Row", "Rows", "Span", "Tone", "Viewing", "heading", "line"]

Tone: TypeAlias = Literal["plain", "dim", "title", "accent", "plot", "ok", "watch", "bad", "limit", "unknown"]
_TONES: tuple[Tone, ...] = ("plain", "dim", "title", "accent", "plot", "ok", "watch", "bad", "limit", "unknown")
Span: TypeAlias = tuple[str, Tone]


class Row(NamedTuple):
    """One line, and what choosing it opens."""

    spans: tuple[Span, ...] = ()
    opens: object | None = None


def line(*spans: Span | str, opens: object | None = None) -> Row:
    """Make a row; bare text is plain."""
    return Row(tuple((span, "plain") if isinstance(span, str) else span for span in spans), opens)


def heading(text: str, note: str = "", opens: object | None = None) -> Row:
    """Make the row above a section."""
    return Row(((f" {text} ", "title"), (f" {note}" if note else "", "dim")), opens)


class Rows(ScrollView, can_focus=True, inherit_bindings=False):
    """A scrolling list of rows with a cursor, which follows what it stands on when the list moves."""

    DEFAULT_CSS = """
    Rows { background: $background; color: $foreground; overflow-x: hidden; scrollbar-size-vertical: 1;
        scrollbar-background: $surface; scrollbar-color: $panel-lighten-2; }
    Rows > .rows--plain { }
    Rows > .rows--dim { color: $text-muted; }
    Rows > .rows--title { color: $text-primary; text-style: bold; background: $panel; }
    Rows > .rows--accent { color: $text-accent; }
    Rows > .rows--plot { color: $text-secondary; }
    Rows > .rows--ok { color: $text-success; }
    Rows > .rows--watch { color: $text-warning; text-style: bold; }
    Rows > .rows--bad { color: $text-error; text-style: bold reverse; }
    Rows > .rows--limit { color: $text-error; }
    Rows > .rows--unknown { color: $text-muted; text-style: italic; }
    Rows > .rows--cursor { background: $primary-muted; }
    """
    COMPONENT_CLASSES: ClassVar[set[str]] = {"rows--cursor", *(f"rows--{tone}" for tone in _TONES)}
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", "Up", show=False),
        Binding("down,j", "move(1)", "Down", show=False),
        Binding("pageup", "page(-1)", "Page up", show=False),
        Binding("pagedown", "page(1)", "Page down", show=False),
        Binding("home", "move(-1000000)", "First", show=False),
        Binding("end", "move(1000000)", "Last", show=False),
        Binding("enter", "choose", "Open", show=False),
    ]

    @dataclass
    class Chosen(Message):
        """A row was chosen, by Enter or a double click."""

        opens: object

    def __init__(self, *, id: str | None = None, focusable: bool = True) -> None:  # noqa: A002 - Textual's name
        super().__init__(id=id)
        self.can_focus = focusable
        self.cursor = 0
        self._items: Sequence[object] = ()
        self._drawn: dict[int, Row] = {}
        self._styles: dict[Tone, Style] = {}
        self._ground = self._cursor = Style()

    def row(self, item: object) -> Row:
        """Return how an item is drawn; called for visible ones only. Items are rows unless a subclass knows better."""
        assert isinstance(item, Row)
        return item

    @property
    def columns(self) -> int:
        """Columns there are to draw in."""
        return self.scrollable_content_region.width

    def show(self, items: Sequence[object]) -> None:
        """Draw these items; lines that stay as they are cost nothing."""
        held = self.cursor or self.scroll_offset.y  # at the very top one watches what comes
        anchor = self._items[held] if 0 < held < len(self._items) else None
        grown, self._items = len(items) - len(self._items), items
        if grown:
            self.virtual_size = Size(self.columns, len(items))
        if anchor is not None and not isinstance(anchor, Row):
            self._follow(anchor, held)
        self.cursor = max(min(self.cursor, len(items) - 1), 0)
        top, before, self._drawn = self.scroll_offset.y, self._drawn, {}
        changed = []
        for y in range(top, top + self.size.height):
            if y < len(items):
                self._drawn[y] = self.row(items[y])
            if (y in before) != (y in self._drawn) or (y in before and before[y].spans != self._drawn[y].spans):
                changed.append(y)
        if changed:
            self.refresh_lines(changed[0], changed[-1] - changed[0] + 1)

    def _follow(self, anchor: object, was_at: int) -> None:
        """Move with an item, so that it stays where it is on the screen."""
        moved = next((y for y, item in enumerate(self._items) if item is anchor), was_at) - was_at
        if moved:
            self.scroll_to(y=self.scroll_offset.y + moved, animate=False)
            self.cursor += moved if self.cursor else 0
            self._redraw()

    def _redraw(self) -> None:
        self._drawn = {}
        self.refresh()

    def render_line(self, y: int) -> Strip:
        """Draw one line of the screen."""
        y += self.scroll_offset.y
        width = self.columns
        if not self._styles:
            self._styles = {tone: self.get_component_rich_style(f"rows--{tone}") for tone in _TONES}
            self._ground = self.rich_style
            self._cursor = Style(bgcolor=self.get_component_rich_style("rows--cursor").bgcolor)
        if y >= len(self._items):
            return Strip.blank(width, self._ground)
        row = self._drawn.get(y)
        if row is None:
            row = self._drawn[y] = self.row(self._items[y])
        if y == self.cursor and self.has_focus:
            segments = [Segment(text, self._styles[tone] + self._cursor) for text, tone in row.spans]
            return _fitted(segments, width, self._ground + self._cursor)
        # Neighbours of one tone are drawn together: the compositor's cost is by the piece.
        segments = [
            Segment("".join(text for text, _ in spans), self._styles[tone])
            for tone, spans in groupby(row.spans, key=itemgetter(1))
        ]
        return _fitted(segments, width, self._ground)

    def notify_style_update(self) -> None:
        """Redraw in the colours of a new theme."""
        super().notify_style_update()
        self._styles = {}
        self._redraw()

    def on_resize(self) -> None:
        """Keep the scrollable width that of the widget."""
        self.virtual_size = Size(self.columns, len(self._items))
        self._redraw()

    def watch_has_focus(self, focused: bool) -> None:
        """Show the cursor or hide it."""
        super().watch_has_focus(focused)
        self.refresh_line(self.cursor)

    def action_move(self, by: int) -> None:
        """Move the cursor by some rows."""
        if not self._items:
            return
        self.refresh_line(self.cursor)
        self.cursor = max(min(self.cursor + by, len(self._items) - 1), 0)
        self.refresh_line(self.cursor)
        top, height = self.scroll_offset.y, self.size.height
        if not top <= self.cursor < top + height:
            self.scroll_to(y=self.cursor if self.cursor < top else self.cursor - height + 1, animate=False)

    def action_page(self, direction: int) -> None:
        """Go by as many rows as are visible, with the cursor where it is on the screen."""
        by = direction * max(self.size.height - 1, 1)
        top = self.scroll_offset.y + by
        self.action_move(by)
        self.scroll_to(y=top, animate=False)

    def action_choose(self) -> None:
        """Open what the cursor stands on, or else what the section around it is about."""
        for y in range(min(self.cursor, len(self._items) - 1), -1, -1):
            row = self.row(self._items[y])
            if row.opens is not None:
                self.post_message(self.Chosen(row.opens))
            if row.opens is not None or (row.spans and row.spans[0][1] == "title"):
                return

    def on_click(self, event: events.Click) -> None:
        """Put the cursor under the mouse; a double click opens."""
        y = event.y + self.scroll_offset.y
        if y < len(self._items):
            self.action_move(y - self.cursor)
            if event.chain > 1:
                self.action_choose()


def _fitted(segments: list[Segment], width: int, ground: Style) -> Strip:
    """Make a line as wide as the screen; one that has to be cut says so."""
    strip = Strip([Segment(printable(segment.text), segment.style) for segment in segments])
    if strip.cell_length > width > 0:
        strip = Strip([*strip.crop(0, width - 1), Segment("…", segments[-1].style)])
    return strip.adjust_cell_length(width, ground)


class Viewing(Rows):
    """Rows that follow a view."""

    def refresh_view(self, view: View) -> None:
        """Show what is to be seen now."""
        raise NotImplementedError


class Lines(Viewing):
    """Rows made by a function of the view and the room there is: columns and lines."""

    def __init__(
        self,
        build: Callable[[View, int, int], list[Row]],
        *,
        id: str,  # noqa: A002 - Textual's name
        focusable: bool = True,
    ) -> None:
        super().__init__(id=id, focusable=focusable)
        self._build = build
        self._view: View | None = None

    def refresh_view(self, view: View) -> None:
        """Show what is to be seen now."""
        self._view = view
        self.show(self._build(view, self.columns, self.size.height))

    def on_resize(self) -> None:
        """Make the rows anew for the new room."""
        super().on_resize()
        if self._view is not None:
            self.refresh_view(self._view)

"""A table as HTML."""

from __future__ import annotations

from esper.karn.report.markup import escaped
from esper.karn.report.plot import Table, as_text

__all__ = ["table_html"]

_LONGEST_SHORT = 20
"""Characters of a cell that stay on one line."""
_MOST_ROWS = 80
"""Rows of a table that is shown whole; a longer one scrolls."""


def _cell(text: str) -> str:
    kind = " class=short" if len(text) <= _LONGEST_SHORT else ""
    return f"<td{kind}>{escaped(text)}</td>"


def table_html(table: Table) -> str:
    """Return a table, which scrolls in a box of its own where it is wider than the screen."""
    head = "".join(f'<th scope="col">{escaped(as_text(cell))}</th>' for cell in table.head)
    rows = "\n".join(
        f'<tr{" class=marked" if i in table.marked else ""}><th scope="row">{escaped(row[0])}</th>'
        + "".join(_cell(cell) for cell in row[1:])
        + "</tr>"
        for i, row in enumerate(table.rows)
    )
    caption = f'<p class="caption">{escaped(as_text(table.caption))}</p>' if table.caption else ""
    kind = "text" if table.text else "numbers"
    long = " long" if len(table.rows) > _MOST_ROWS else ""
    return (
        f'{caption}<div class="box table{long}"><table class="{kind}"><thead><tr>{head}</tr></thead>'
        f"<tbody>\n{rows}\n</tbody></table></div>"
    )

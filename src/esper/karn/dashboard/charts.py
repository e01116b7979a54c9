"""Which charts there are, what each is compared with, and how many fit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from esper.karn.absence import supplied_number
from esper.karn.dashboard.chart import Level, Panel, draw, with_levels
from esper.karn.dashboard.courses import BATCH_FIELDS, UPDATE_FIELDS, Course
from esper.karn.dashboard.rows import Row, heading, line
from esper.karn.derived import accuracy_of, evaluation_of, return_of
from esper.karn.formatting import fraction, is_finite, number, plural, tidy
from esper.karn.quantities import QUANTITIES, baselines_of
from esper.leyline.limits import Status
from esper.leyline.typical import value_of
from esper.leyline.update_rules import RULE_OF

if TYPE_CHECKING:
    from collections.abc import Sequence

    from esper.karn.dashboard.following import View
    from esper.karn.snapshot import GroupSnapshot
    from esper.leyline.limits import Limits
    from esper.leyline.run_info import Evaluation

__all__ = ["LEAST_CHART", "RULE_OF_FIELD", "all_charts", "chart_rows", "charts_height", "shown_groups"]

_LEAST_WIDTH: Final = 38
_LEAST_HEIGHT: Final = 7
LEAST_CHART: Final = 5
"""Lines below which a chart shows nothing."""
_MOST_BESIDE: Final = 4
"""Charts beside each other; of a comparison of more arms, as many arms as fit."""
_HIGH: Final = 12
"""Lines of a chart where there is no need to save them."""
_AT_A_GLANCE: Final = (*BATCH_FIELDS, *UPDATE_FIELDS[:8], "lr", "update_time_ms")
"""On the main screen, in this order; before the others comes what a rule found trouble with."""
_TITLES: Final = {
    "lr": "learning rate",
    "update_time_ms": "update time in ms",
    "explained_variance": "explained variance",
}


def chart_rows(view: View, width: int, height: int) -> list[Row]:
    """Return as many charts as fit, the most telling first."""
    groups = shown_groups(view, width)
    panels = _panels(view, groups, _AT_A_GLANCE)
    if not panels:
        return _nothing_yet(view)
    if height < LEAST_CHART:
        return []
    beside = _beside(width, len(groups))
    n_rows = max(min(-(-len(panels) // beside), height // _LEAST_HEIGHT), 1)
    shown = panels[: beside * n_rows]
    beside = max(-(-len(shown) // n_rows), min(len(groups), beside))
    heights = [height // n_rows + (row < height % n_rows) for row in range(n_rows)]
    return [row for at, high in enumerate(heights) for row in _side_by_side(shown[at * beside :][:beside], width, high)]


def charts_height(view: View, width: int) -> int:
    """Return how many lines charts can make use of."""
    groups = shown_groups(view, width)
    n = len(groups) * sum(_is_measured(view, groups, field) for field in _AT_A_GLANCE)
    return -(-n // _beside(width, len(groups))) * _HIGH if n else len(_nothing_yet(view))


def all_charts(view: View, width: int) -> tuple[list[Row], list[Row]]:
    """Return every chart there is something to draw on, one below the other."""
    groups = shown_groups(view, width)
    panels = _panels(view, groups, (*BATCH_FIELDS, *UPDATE_FIELDS))
    if not panels:
        return [heading("CHARTS", "none yet"), *_nothing_yet(view)], []
    beside = max(_beside(width, len(groups)) // 2, len(groups)) if len(panels) > 1 else 1
    rows = [heading("CHARTS", "the whole run, lowest and highest joined; × is not finite")]
    for at in range(0, len(panels), beside):
        rows += [*_side_by_side(panels[at : at + beside], width, _HIGH, of=beside), line()]
    return rows, []


def shown_groups(view: View, width: int) -> list[GroupSnapshot]:
    """Return the arms of a comparison that fit beside each other, that which is looked at among them."""
    groups = list(view.snapshot.groups.values())
    room = max(min(width // _LEAST_WIDTH, _MOST_BESIDE), 1)
    if view.group is not None and len(groups) > room and view.group not in groups[:room]:
        return [*groups[: room - 1], view.group]
    return groups[:room]


def _beside(width: int, n_groups: int) -> int:
    beside = max(min(width // _LEAST_WIDTH, _MOST_BESIDE), 1)
    return max(beside // max(n_groups, 1) * n_groups, 1)


def _nothing_yet(view: View) -> list[Row]:
    if view.group is None or view.reading is not None:
        return []
    return [line(" No batch is complete yet: return and accuracy come at the end of each.")]


def _side_by_side(panels: Sequence[Panel], width: int, height: int, of: int = 0) -> list[Row]:
    of = max(of, len(panels))
    widths = [width * (at + 1) // of - width * at // of for at in range(of)]
    drawn = [draw(panel, wide, height) for panel, wide in zip(panels, widths, strict=False)]
    return [Row(tuple(span for spans in lines for span in spans), opens="charts") for lines in zip(*drawn, strict=True)]


def _panels(view: View, groups: Sequence[GroupSnapshot], fields: Sequence[str]) -> list[Panel]:
    """Return the charts of some fields, for each field those of all arms."""
    troubled = [RULE_OF[one.rule].field for one in view.of_all.alarms if one.rule in RULE_OF]
    first = [field for field in dict.fromkeys(troubled) if field in fields]
    ordered = dict.fromkeys((*fields[:1], *first, *fields))
    return [panel for field in ordered for panel in _of_field(view, groups, field)]


def _of_field(view: View, groups: Sequence[GroupSnapshot], field: str) -> list[Panel]:
    if not _is_measured(view, groups, field):
        return []
    courses = [_course(view, group, field) for group in groups]
    wholes = [None if course is None else course.whole(field) for course in courses]
    lows = [whole.low for whole in wholes if whole is not None and whole.low is not None]
    highs = [whole.high for whole in wholes if whole is not None and whole.high is not None]
    levels = [level for group in groups for level in _levels(view, group, field)]
    span = with_levels((min(lows), max(highs)), levels) if len(groups) > 1 and lows and highs else None
    return [
        _panel(view, group, course, field, span)
        for group, course in zip(groups, courses, strict=True)
        if course is not None
    ]


def _is_measured(view: View, groups: Sequence[GroupSnapshot], field: str) -> bool:
    courses = (_course(view, group, field) for group in groups)
    wholes = [course.whole(field) for course in courses if course is not None]
    return any(whole.low is not None or whole.not_finite for whole in wholes)


def _course(view: View, group: GroupSnapshot, field: str) -> Course | None:
    courses = view.courses.get(group.group_id)
    if courses is None:
        return None
    return courses.batches if field in BATCH_FIELDS else courses.updates


def _panel(view: View, group: GroupSnapshot, course: Course, field: str, span: tuple[float, float] | None) -> Panel:
    title = _TITLES.get(field) or RULE_OF_FIELD.get(field, field.replace("_", " "))
    name = QUANTITIES[field].name if field in QUANTITIES else title
    arm = f"{tidy(group.group_id, 12)}: " if len(view.snapshot.groups) > 1 else ""
    newest = _newest(group, field)
    text = QUANTITIES[field].text if field in QUANTITIES else number
    return Panel(
        title=f"{arm}{name}",
        short=f"{arm}{QUANTITIES[field].short if field in QUANTITIES else name}",
        newest=text(newest),
        sound=newest is None or is_finite(newest),
        note=_note(group, course, field) if field in BATCH_FIELDS else "",
        course=course,
        field=field,
        version=course.version,
        levels=_levels(view, group, field),
        first=_where(course.stretches[0].batch, 0, "batch" if field in BATCH_FIELDS else "update")
        if course.stretches
        else "",
        last=_last(group, course, field),
        span=span,
    )


RULE_OF_FIELD: Final = {rule.field: rule.label for rule in RULE_OF.values()}


def _newest(group: GroupSnapshot, field: str) -> float | None:
    if field not in BATCH_FIELDS:
        return None if group.update is None else value_of(group.update.data, field)
    if group.batch is None:
        return None
    started = None if group.started is None else group.started.data
    return return_of(group.batch.data, started) if field == BATCH_FIELDS[0] else accuracy_of(group.batch.data)


def _note(group: GroupSnapshot, course: Course, field: str) -> str:
    rolling = None if group.batch is None else supplied_number(group.batch.data, "rolling_accuracy")
    best = _best(course, field)
    return best if field == BATCH_FIELDS[0] or rolling is None else f"{best}  rolling {fraction(rolling)}"


def _best(course: Course, field: str) -> str:
    high = course.whole(field).high
    if high is None:
        return "best —"
    at = next(
        stretch for stretch, extent in zip(course.stretches, course.extents(field), strict=True) if extent.high == high
    )
    return f"best {QUANTITIES[field].text(high)}" + (
        "" if at.batch is None else f" {'in' if at.n == 1 else 'near'} batch {at.batch:,}"
    )


def _where(batch: int | None, ordinal: int, thing: str) -> str:
    return f"{thing} {ordinal:,}" if batch is None else f"batch {batch:,}"


def _last(group: GroupSnapshot, course: Course, field: str) -> str:
    count = sum(stretch.n for stretch in course.stretches)
    last = f"{count - 1 if course.last_batch is None else course.last_batch:,}"
    if field not in BATCH_FIELDS or group.batch is None:
        return last
    return f"{last} ({plural(group.batch.data.episodes_completed, 'episode')})"


def _levels(view: View, group: GroupSnapshot, field: str) -> tuple[Level, ...]:
    """Return what values are compared with: the limits of the rules, and how policies that learnt nothing did."""
    limits = group.health.limits
    if field in BATCH_FIELDS:
        evaluation = evaluation_of(view.snapshot, view.info, group.group_id)
        return () if evaluation is None else _baselines(evaluation, field)
    return tuple(
        Level(value, status.name.lower(), "watch" if status is Status.WATCH else "limit")
        for status in (Status.WATCH, Status.BAD)
        for value in (_limit(limits, field, status),)
        if value is not None
    )


def _limit(limits: Limits, field: str, status: Status) -> float | None:
    if field == "explained_variance":
        return limits.explained_bad if status is Status.BAD else limits.explained_watch
    of = {"kl_divergence": limits.kl, "clip_fraction": limits.clip_fraction, "ratio_max": limits.ratio}
    return of[field](status) if field in of else None


def _baselines(evaluation: Evaluation, field: str) -> tuple[Level, ...]:
    means = {
        name: (score.reward if field == BATCH_FIELDS[0] else score.val_accuracy).mean
        for name, score in baselines_of(evaluation).items()
    }
    return tuple(Level(mean, name, "dim") for name, mean in means.items() if is_finite(mean))

"""What the help screen says."""

from __future__ import annotations

import textwrap

from esper.karn.dashboard.rows import Row, heading, line
from esper.karn.dashboard.standing import STATUS_TONES
from esper.leyline.limits import Status
from esper.leyline.update_rules import UPDATE_RULES

__all__ = ["help_rows"]

_KEYS = (
    ("1-9", "jump to the event that first showed the trouble of that number"),
    ("↑ ↓ PgUp PgDn", "move in the section that has the focus; Tab goes to the next section"),
    ("Enter", "open what the cursor stands on: a trouble, an environment, an event in full (mouse: double click)"),
    ("u", "health: every rule; heads, layers, updates"),
    ("c", "every chart"),
    ("r", "run: start, seeds, actions, evaluation, what the sinks delivered and lost"),
    ("o", "list environments in another order: worst first, by number, accuracy, loss, reward, value"),
    ("f", "choose which events the log shows"),
    ("z", "enlarge the section that has the focus; Esc goes back"),
    ("g", "the environments of the next arm of an A/B comparison"),
    ("Space", "hold the screen still, or go on; a playback stops"),
    ("d", "dark or light"),
    ("s", "screenshot: an SVG file in the working directory"),
    ("← →", "previous and next environment or event, where one is open"),
    ("Esc", "back"),
    ("q", "quit"),
)
_SIGNS = (
    ("—", "was not supplied; never shown as 0"),
    ("#####", "a number of which no digits fit"),
    ("…", "text that had to be cut; Enter or z shows more"),
    (
        "charts",
        "the whole run, from the first batch to the newest: where several share a place, lowest and highest are joined",
    ),
    (
        "╌╌ watch",
        "on a chart: a limit, or a policy that learnt nothing;  ↑ ↓  in a title: above or below what is drawn",
    ),
    ("×", "on a chart: a value that is not finite, where it was;  ·  in a line of blocks: no value"),
    ("learnt", "by the evaluation if there is one, else by the newest batches against the first: yes, no or not clear"),
    ("Best episode", "the highest return of an episode of which every step is in the log, and the seeds that it kept"),
    ("germinated", "a slot's seed, then training, blending (it joins by α), holding, kept (fossilized: for good)"),
    ("pruned", "a slot's seed was taken out;  resting  the slot may have no seed yet"),
    ("germ mixer .40", "stage, blueprint and α;  G T B H K P R  where there is room for a letter alone"),
    ("· —", "the slot is empty;  —  nothing is known of it;  +3  slots that there is no room for"),
    ("<1 >0", "α is nearly 1, or nearly 0;  >1 and <0  cannot be"),
    ("all", "from 16 environments on: means of what is finite, how many seeds are in which stage"),
    ("! WATCH", "also what was BAD and is over: it says how often, and since when it is not"),
    ("D I W E C", "an event's severity: debug, info, warning, error, critical; times are of the zone in the heading"),
    (
        "● LIVE",
        "events come;  ◌ WAITING  none came yet;  ◌ READING THE LOG  what was written before is being caught up with",
    ),
    (
        "▲ STALE",
        "no event for over 10 s, thrice the time of a batch;  ■ INPUT ENDED  the stream was closed",
    ),
    ("■ FINISHED", "run.json says so, as for  ■ INTERRUPTED  and  ✗ FAILED;  a plan that is fulfilled says nothing"),
    ("ETA", "by the pace of the newest ten batches"),
)


_OTHER_RULES = (
    (
        "return, accuracy",
        "BAD when not finite, or when half of all they ever spanned is lost, beyond the noise; WATCH for less",
    ),
    ("return", "WATCH when it never rose clearly, or long since not; both ends are compared in standard errors"),
    ("hosts, rewards", "BAD while hosts diverge, or rewards are not finite; WATCH afterwards"),
    ("seeds, slots", "WATCH when all seeds die, or a slot is never used"),
    ("telemetry", "BAD when the run failed or events were lost; WATCH for gaps, pauses and clocks set back"),
)


def help_rows(width: int) -> list[Row]:
    """Return keys, signs and rules."""
    rows = [heading("KEYS"), *_explained(_KEYS, width), line()]
    rows += [heading("SIGNS"), *_explained(_SIGNS, width), line()]
    rows.append(heading("HEALTH", "finiteness first; unknown is never OK"))
    rows += [line((f" {status.value} {status.name}", STATUS_TONES[status])) for status in Status]
    return rows + _explained(tuple((rule.label, rule.text) for rule in UPDATE_RULES) + _OTHER_RULES, width)


def _explained(pairs: tuple[tuple[str, str], ...], width: int) -> list[Row]:
    rows = []
    for name, text in pairs:
        first, *rest = textwrap.wrap(text, max(width - 19, 20))
        rows += [line((f" {name:<17}", "accent"), first), *(line(" " * 18 + more) for more in rest)]
    return rows

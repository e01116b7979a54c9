"""Which attempt a start begins or joins, and what a resume takes back."""

from __future__ import annotations

from typing import Any

import pytest
from tests.builders import payload

from esper.leyline.attempts import Attempts
from esper.leyline.telemetry import TrainingStartedPayload


def start(episode: int = 0, **fields: Any) -> TrainingStartedPayload:
    return payload(TrainingStartedPayload, **{"episode_id": "run", "world_size": 2, "rank": 0, **fields},
                   start_episode=episode)  # fmt: skip


def test_before_any_start_there_is_the_first_run_and_nothing_is_taken_back() -> None:
    attempts = Attempts()
    assert (bool(attempts), attempts.run, attempts.superseded_from(0, 0)) == (False, 0, None)


def test_a_resume_takes_back_also_what_came_before_a_start_that_was_lost() -> None:
    attempts = Attempts()
    first = attempts.without_start()
    assert attempts.without_start() is first
    resume = attempts.of_start(start(4), None)
    assert (first.start_episode, resume.run, resume.resume, attempts.superseded_from(0, 0)) == (0, 0, 1, 4)


def test_a_rank_that_starts_again_begins_another_attempt_and_another_rank_does_not() -> None:
    attempts = Attempts()
    found = [attempts.of_start(start(rank=rank), None) for rank in (0, 1, 0, 1)]
    assert [(attempt.index, attempt.run) for attempt in found] == [(0, 0), (0, 0), (1, 1), (1, 1)]


@pytest.mark.parametrize("other", [{"episode_id": "else"}, {"world_size": 3}, {"start_episode": 4}])
def test_a_rank_joins_only_an_attempt_of_its_own_run(other: dict[str, Any]) -> None:
    attempts = Attempts()
    attempts.of_start(start(), None)
    fields = {"rank": 1, **other}
    assert attempts.of_start(start(fields.pop("start_episode", 0), **fields), None).index == 1


def test_a_shard_goes_on_to_the_attempts_after_its_own_in_their_order() -> None:
    attempts = Attempts()
    first, second, third = (attempts.of_start(start(), None) for _ in range(3))
    assert attempts.of_start(start(rank=1), first) is second
    assert attempts.of_start(start(rank=1), second) is third
    assert 1 not in first.ranks


def test_where_all_ranks_come_as_one_a_start_joins_the_newest_attempt_that_lacks_it() -> None:
    attempts = Attempts()
    first, second = (attempts.of_start(start(), None) for _ in range(2))
    assert [attempts.of_start(start(rank=1), None) for _ in range(2)] == [second, first]


def test_a_rank_is_looked_for_among_the_newest_attempts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("esper.leyline.attempts._REACH", 2)
    for more, joins in ((1, True), (2, False)):
        attempts = Attempts()
        first = attempts.of_start(start(), None)
        for n in range(more):
            attempts.of_start(start(episode_id=f"other{n}"), None)
        assert (attempts.of_start(start(rank=1), None) is first) == joins


def test_a_resume_that_reaches_as_far_back_as_the_one_before_stands_for_both() -> None:
    attempts = Attempts()
    for episode in (0, 4, 4, 6):
        attempts.of_start(start(episode), None)
    assert [attempts.superseded_from(resume, 0) for resume in range(4)] == [4, 4, 6, None]

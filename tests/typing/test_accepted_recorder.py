"""What a recorder measured goes into its payload with no cast; it needs torch, which the contract does without."""

from __future__ import annotations

from typing import assert_type

from esper.leyline import PPOUpdatePayload
from esper.simic.diagnostics import UpdateRecorder


def test_what_was_recorded_of_an_update_makes_its_payload() -> None:
    recorder = UpdateRecorder(clip_ratio=0.2)
    recorder.step(policy_loss=-0.1, value_loss=0.5, entropy=1.2, log_ratio=[0.0, 0.1])
    payload = PPOUpdatePayload(**recorder.fields(), lr=3e-4, batch=7)
    assert isinstance(assert_type(payload.kl_divergence, float), float)

"""What every test stands on."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# Time is not what these tests are about, and machines differ.
settings.register_profile("esper", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("esper")

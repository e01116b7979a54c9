"""What every test stands on."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

# Time is not what these tests are about, and machines differ. CI judges a change by the same examples every time; new
# ones are looked for wherever else the tests run.
settings.register_profile(
    "esper", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize="CI" in os.environ
)
settings.load_profile("esper")

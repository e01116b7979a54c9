"""What every test stands on."""

from __future__ import annotations

import os
import signal

from hypothesis import HealthCheck, settings

# Time is not what these tests are about, and machines differ. CI judges a change by the same examples every time; new
# ones are looked for wherever else the tests run.
settings.register_profile(
    "esper", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize="CI" in os.environ
)
settings.load_profile("esper")

# Whoever runs the tests in the background has them, and every child that they start, ignore what they test.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
for number in (signal.SIGTERM, signal.SIGHUP):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, signal.SIG_DFL)

"""What all tests share: the hypothesis profiles. `HYPOTHESIS_PROFILE=deep make test` looks twenty times longer."""

from __future__ import annotations

import os
import signal

from hypothesis import HealthCheck, settings

# No deadline: the machines that run this are shared, and a slow example is not a wrong one.
settings.register_profile("fast", max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("deep", max_examples=1000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fast"))

# A shell's "&" starts its children with Control-C ignored, and what the tests start would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

# A busy machine draws slowly; that is no defect. CI tries the same examples every time, so that
# what fails there fails for a reason in the change; elsewhere new ones are tried in every run.
settings.register_profile("local", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("local"), derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")

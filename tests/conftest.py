"""One thread for each process, and the same examples in every run.

Two workers share two cores, and threads of torch would wait for each other. `pytest --hypothesis-profile=default` looks
for new examples; what a change is held against does not vary from run to run.
"""

from __future__ import annotations

import os

from hypothesis import settings

os.environ.setdefault("OMP_NUM_THREADS", "1")
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")

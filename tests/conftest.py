"""One thread for each process: two workers share two cores, and threads of torch would wait for each other."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

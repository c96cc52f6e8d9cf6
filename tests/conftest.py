"""One thread for each process, the same examples in every run, long files first, and less to look for garbage in.

Two workers share two cores, and threads of torch would wait for each other. `pytest --hypothesis-profile=default` looks
for new examples; what a change is held against does not vary from run to run.
"""

from __future__ import annotations

import gc
import os

from hypothesis import settings

os.environ.setdefault("OMP_NUM_THREADS", "1")
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")

LONGEST = ("tests/test_demo.py", "tests/harness/test_autointerp.py", "tests/harness/test_sweep.py", "tests/harness/")
"""Where the time goes, so that no worker is left alone with it: a file is one worker's."""


def pytest_configure(config):
    """Keep xdist to that order: it would begin with the file of the most tests, which are the short ones."""
    config.option.loadscopereorder = False


def pytest_collection_modifyitems(items):
    """Put the longest files first; pytest drops paths that lie within another, so `testpaths` cannot."""
    items.sort(key=lambda item: next((i for i, path in enumerate(LONGEST) if item.nodeid.startswith(path)), 99))


def pytest_collection_finish():
    """Leave what was imported out of every later collection: statsmodels' Holm asks for a full one at each call."""
    gc.collect()
    gc.freeze()

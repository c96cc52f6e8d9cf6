from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict, replace

import pytest
import torch

from sae_sanity.suites.synthetic import (
    KINDS,
    PAPER,
    SYNTHSAEBENCH,
    WorldSpec,
    largest_that_fits,
    make_world,
    memory_bytes,
)
from sae_sanity.suites.synthetic.memory import check_memory

CPU = torch.device("cpu")


@pytest.mark.parametrize("kind", KINDS)
def test_too_large_is_refused_with_what_would_fit(kind):
    spec = WorldSpec(kind, 10**7, 1000, 20.0)
    with pytest.raises(ValueError, match=rf"^n_features is 10000000: a {kind} world .* GiB is free; \d+ features"):
        check_memory(spec, CPU, free=2**30)
    fits = largest_that_fits(spec, 2**30)
    assert 0 < fits < 10**7
    check_memory(replace(spec, n_features=fits), CPU, free=2**30)
    with pytest.raises(ValueError):
        check_memory(replace(spec, n_features=fits + 1), CPU, free=2**30)


def test_nothing_fits():
    assert largest_that_fits(PAPER["constant"], 10) == 0


def test_refused_before_it_is_made():
    with pytest.raises(ValueError, match="features would fit"):
        make_world(WorldSpec("constant", 10**12, 1000, 20.0), 0)


@pytest.mark.parametrize("spec", [*PAPER.values(), SYNTHSAEBENCH, replace(SYNTHSAEBENCH, kind="hierarchical")])
def test_all_recipes_stay_below_six_gib(spec):
    assert memory_bytes(spec, n=50_000) < 2 * 2**30


PEAK = """
import gc, json, sys
from dataclasses import replace
from pathlib import Path
from sae_sanity.suites.synthetic import WorldSpec, make_world

def status(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(name))

spec, n = WorldSpec(**json.loads(sys.argv[1])), int(sys.argv[2])
make_world(replace(spec, n_features=64, l0=2.0), 0).sample(8, seed=0)  # what is set up once
gc.collect()
Path("/proc/self/clear_refs").write_text("5")
before = status("VmRSS")
make_world(spec, 0).sample(n, seed=0)
print(status("VmHWM") - before)
"""


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="the peak cannot be reset")
@pytest.mark.parametrize(
    ("spec", "n"),
    [
        (WorldSpec("variable", 40_000, 256, 20.0), 30_000),
        (WorldSpec("hierarchical", 8192, 64, 20.0), 4096),
        (WorldSpec("synthsaebench", 4096, 64, 20.0, orthogonal_steps=1), 8192),
    ],
    ids=lambda value: getattr(value, "kind", ""),
)
def test_estimate_against_the_process(spec, n):
    # A process of its own: in this one, memory that earlier tests freed would be used again, and not be seen.
    command = [sys.executable, "-c", PEAK, json.dumps(asdict(spec)), str(n)]
    peak = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    estimate = memory_bytes(spec, n=n)
    assert estimate / 4 < peak < estimate

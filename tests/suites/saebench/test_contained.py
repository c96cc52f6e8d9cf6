"""SAEBench leaves no trace in the process."""

from __future__ import annotations

import random
import subprocess
import sys

import numpy as np
import torch
from tqdm import tqdm
from tqdm.autonotebook import tqdm as autonotebook

from sae_sanity.suites.saebench import contained


def test_noise_goes_to_the_log(tmp_path, capsys):
    with contained(tmp_path / "new/log", 0):
        print("a print")  # noqa: T201
        for bar in (tqdm, autonotebook):
            list(bar(range(3), desc="a bar"))
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("", "")
    log = (tmp_path / "new/log").read_text()
    assert "a print" in log
    assert log.count("100%") >= 2
    list(tqdm(range(2)))
    assert "2/2" in capsys.readouterr().err


def test_modes_and_random_numbers_come_back(tmp_path):
    def draw():
        return random.getrandbits(30), float(np.random.rand()), float(torch.rand(1))

    def seed():
        random.seed(5)
        np.random.seed(5)
        torch.manual_seed(5)

    seed()
    wanted = draw()
    seed()
    with contained(tmp_path / "log", 42):
        first = draw()
        torch.set_grad_enabled(False)
    assert torch.is_grad_enabled()
    assert draw() == wanted
    with contained(tmp_path / "log", 42):
        assert draw() == first


def test_importing_needs_no_saebench():
    code = "import sys, sae_sanity.suites.saebench; print([m for m in sys.modules if m.startswith('sae_bench')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

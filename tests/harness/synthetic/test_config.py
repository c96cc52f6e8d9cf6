"""Settings of synthetic runs: what is refused, and that a recorded command gives the same settings again."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from tiny_worlds import TINY_WORLDS, tiny_worlds

from sae_sanity.harness import cli
from sae_sanity.harness.config import resolve
from sae_sanity.harness.errors import UsageError
from sae_sanity.harness.synthetic.config import OF_PROFILE, PRESETS, of_check, resolve_synthetic
from sae_sanity.harness.synthetic.judge import command_line, config_hash, default_folder

WRONG = [
    ({"world": "varable"}, "no such world: 'varable'; did you mean 'variable'"),
    ({"preset": "smal"}, "no such preset: 'smal'; did you mean 'small'"),
    ({"architecture": "topkk"}, "no such architecture: 'topkk'; did you mean 'topk'"),
    ({"n_feature": 3}, "no such setting: 'n_feature'; did you mean 'n_features'"),
    ({"samples": "5000", "batch_size": "6000"}, "samples is 5000; it must be at least batch_size, 6000"),
    ({"samples": "1024"}, "samples is '1024': input should be greater than or equal to 4096"),
    ({"starts": "0"}, "starts is '0'"),
    ({"worlds": "1"}, "worlds is '1'"),
    ({"random_starts": "2"}, "random_starts is '2'"),
    ({"tau": ["0"]}, "tau.0 is '0'"),
    ({"tau": ["1.1"]}, "tau.0 is '1.1'"),
    ({"lr": "nan"}, "lr is 'nan'"),
    ({"lr": "-1"}, "lr is '-1'"),
    ({"world_l0": "inf"}, "world_l0 is 'inf'"),
    ({"world_l0": "40"}, "world_l0 is 40.0; it must be above 0 and at most"),
    ({"l0": "40"}, "l0 is 40 at d_sae 48; it must be at most half"),
    ({"l0": "2.5", "architecture": "topk"}, "l0 is 2.5 for topk, where it is k"),
    ({"device": "abacus"}, "device is 'abacus'"),
    ({"seed": "-1"}, "seed is '-1'"),
    ({"n_features": "many"}, "n_features is 'many'"),
]


@pytest.mark.parametrize(("change", "message"), WRONG)
def test_what_is_wrong_is_one_line(change, message):
    with pytest.raises(UsageError) as caught:
        resolve_synthetic(TINY_WORLDS | change)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_are_complete(preset):
    settings = resolve_synthetic({"preset": preset})
    assert settings.width == settings.n_features
    assert settings.target_l0 == settings.world_l0
    assert len(settings.world_seeds) == settings.worlds >= 3


def test_the_paper_s_world_is_the_paper_s():
    settings = resolve_synthetic({"preset": "paper"})
    assert (settings.n_features, settings.d_in, settings.world_l0, settings.width) == (3200, 100, 20.0, 3200)
    assert settings.worlds >= 3


def test_arms_get_what_was_asked_for():
    settings = tiny_worlds(starts=2, random_starts=4, lr=2e-3, l0=2.0, d_sae=40, tau=[0.5])
    of_arms = settings.of_arms()
    assert (of_arms.seeds, of_arms.random_seeds, of_arms.lr) == (2, 4, 2e-3)
    assert (of_arms.tokens, of_arms.batch_size, of_arms.l0, of_arms.d_sae) == (10_000, 128, 2.0, 40)
    assert of_arms.arms()[1] == "soft_frozen@0.5"


def test_the_recorded_command_gives_the_same_settings_again(monkeypatch, tmp_path):
    settings = tiny_worlds(world="constant", tau=[0.5, 0.9], baselines=["soft_frozen", "random"], d_sae=40, seed=3)
    seen = {}

    def record(given, folder, progress, **options):
        seen.update(settings=given, folder=folder)
        raise UsageError("far enough")

    monkeypatch.setattr("sae_sanity.harness.synthetic.judge.run_synthetic", record)
    words = shlex.split(command_line(settings, tmp_path / "a folder"))
    assert words[0] == "sae-sanity"
    assert cli.main(words[1:]) == 2
    assert seen == {"settings": settings, "folder": tmp_path / "a folder"}


def test_every_setting_makes_another_folder():
    changes = [{}, {"lr": 2e-3}, {"worlds": 3}, {"seed": 1}, {"baselines": ["random"]}, {"world": "constant"}]
    assert len({default_folder(tiny_worlds(**change)) for change in changes}) == len(changes)
    assert len({config_hash(tiny_worlds(**change)) for change in changes}) == len(changes)
    assert default_folder(tiny_worlds()) == default_folder(tiny_worlds())
    assert default_folder(tiny_worlds()).parent == Path("sae-sanity-results")


@pytest.mark.parametrize("profile", ["smoke", "demo", "release"])
def test_a_check_trains_its_own_architecture_in_worlds_of_its_profile(profile):
    flags = {"profile": profile, "architecture": "topk", "tau": [0.9], "world": "constant", "baselines": ["random"]}
    settings = of_check(resolve(flags, environ={}))
    wanted = {"preset": OF_PROFILE[profile], "architecture": "topk", "tau": [0.9], "world": "constant"}
    assert settings == resolve_synthetic(wanted | {"baselines": ["random"]})


def test_an_architecture_without_worlds_is_refused():
    with pytest.raises(UsageError, match="no such architecture: 'transcoder'"):
        of_check(resolve({"architecture": "transcoder"}, environ={}))

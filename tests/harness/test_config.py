from __future__ import annotations

import pytest

from sae_sanity.harness.config import Settings, resolve
from sae_sanity.harness.errors import UsageError
from sae_sanity.harness.profiles import PROFILES


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("profile", list(PROFILES))
def test_every_profile_is_complete(profile):
    settings = resolve({"profile": profile}, environ={})
    assert settings.tokens == PROFILES[profile]["tokens"]
    assert settings.seeds >= 2  # one seed can end in no verdict


def test_order_of_strength(tmp_path):
    (tmp_path / "sae-sanity.toml").write_text('tokens = 10000\nseeds = 7\nd_sae = 64\nprofile = "smoke"\n')
    environ = {"SAE_SANITY_SEEDS": "8", "SAE_SANITY_D_SAE": "128", "SAE_SANITY_CACHE": "/x", "HOME": "/y"}
    settings = resolve({"d_sae": 256, "l0": None}, environ=environ)
    assert (settings.tokens, settings.seeds, settings.d_sae, settings.profile) == (10_000, 8, 256, "smoke")
    assert settings.random_seeds == PROFILES["smoke"]["random_seeds"]


def test_a_named_file_replaces_the_default_one(tmp_path):
    (tmp_path / "sae-sanity.toml").write_text("seeds = 7\n")
    (tmp_path / "other.toml").write_text("seeds = 9\n")
    assert resolve({}, environ={}, config=tmp_path / "other.toml").seeds == 9


def test_lists_from_the_environment():
    settings = resolve({}, environ={"SAE_SANITY_TAU": "0.8, 0.95", "SAE_SANITY_SUITES": "reconstruction"})
    assert settings.tau == (0.8, 0.95)
    assert settings.suites == ("reconstruction",)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"profile": "dmeo"}, "no such profile: 'dmeo'; did you mean 'demo'"),
        ({"tau": ["1.5"]}, r"tau.0 is '1.5': input should be less than or equal to 1"),
        ({"tau": ["0"]}, "greater than 0"),
        ({"seeds": 0}, "seeds is 0: input should be greater than or equal to 1"),
        ({"tokens": "many"}, "tokens is 'many'"),
        ({"tokns": 1}, "no such setting: 'tokns'; did you mean 'tokens'"),
        ({"l0": -1.0}, "l0 is -1.0"),
        ({"lr": "inf"}, "lr is 'inf'"),
        ({"suites": []}, r"suites is \[\]"),
        ({"tau": []}, r"tau is \[\]"),
        ({"random_seeds": 2}, "random_seeds is 2"),
    ],
)
def test_bad_values_are_one_line_that_says_what_would_be_right(flags, message):
    with pytest.raises(UsageError, match=message) as caught:
        resolve(flags, environ={})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"tokens = ", b"\xff\xfe", b"[tokens"])
def test_unreadable_files(tmp_path, content):
    path = tmp_path / "bad.toml"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=r"bad.toml cannot be read.*must be TOML"):
        resolve({}, environ={}, config=path)


def test_missing_file(tmp_path):
    with pytest.raises(UsageError, match="cannot be read"):
        resolve({}, environ={}, config=tmp_path / "none.toml")


def test_soft_frozen_is_run_once_per_tau_and_random_always():
    settings = resolve({"baselines": ["soft_frozen", "frozen_encoder"], "tau": ["0.8", "0.95"]}, environ={})
    assert settings.arms() == ("soft_frozen@0.8", "soft_frozen@0.95", "frozen_encoder", "random")


def test_every_setting_is_described():
    assert all(field.description for field in Settings.model_fields.values())

from __future__ import annotations

import re

import pytest

from sae_sanity.harness.config import Settings, described, resolve
from sae_sanity.harness.errors import UsageError
from sae_sanity.harness.profiles import PROFILES
from sae_sanity.results.policy import Policy


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


def test_a_policy_is_a_table_of_the_file_and_flags_replace_one_field(tmp_path):
    (tmp_path / "sae-sanity.toml").write_text(
        'seeds = 5\n[policy]\nsuites = ["reconstruction"]\nseeds = 3\nmargins = {reconstruction = 0.03, x = 0.1}\n'
    )
    flags = {"policy.margins.reconstruction": "0.05", "policy.on_inconclusive": "warn", "policy.require_lock": "true"}
    policy = resolve(flags, environ={}).policy
    assert (policy.suites, policy.seeds) == (("reconstruction",), 3)
    assert policy.margins == {"reconstruction": 0.05, "x": 0.1}
    assert (policy.on_inconclusive, policy.on_invalid, policy.require_lock) == ("warn", "fail", True)
    assert resolve({}, environ={}).policy.margins["reconstruction"] == 0.03  # nothing was changed in place


def test_without_a_file_of_its_own_the_table_of_pyproject_is_read(tmp_path):
    pyproject = tmp_path / "pyproject.toml"
    pyproject.write_text(
        "[tool.ruff]\nline-length = 3\n[tool.sae-sanity]\nseeds = 9\n[tool.sae-sanity.policy]\nseeds = 4\n"
    )
    assert (resolve({}, environ={}).seeds, resolve({}, environ={}).policy.seeds) == (9, 4)
    (tmp_path / "sae-sanity.toml").write_text("tokens = 8192\n")
    assert resolve({}, environ={}).seeds == PROFILES["demo"]["seeds"]
    assert resolve({}, environ={}, config=pyproject).seeds == 9


def test_a_pyproject_of_others_is_left_alone(tmp_path):
    (tmp_path / "pyproject.toml").write_text("[tool.ruff]\nline-length = 3\n")
    assert resolve({}, environ={}).policy == Policy()
    with pytest.raises(UsageError, match=r"pyproject.toml has no table \[tool.sae-sanity\]"):
        resolve({}, environ={}, config=tmp_path / "pyproject.toml")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[policy]\nmargin = 1", "no such setting: 'policy.margin'; did you mean 'policy.margins'"),
        ("[policy]\nseeds = 0", "policy.seeds is 0: input should be greater than or equal to 1"),
        ("[policy.margins]\nreconstruction = 0", "policy.margins.reconstruction is 0: input should be greater than 0"),
        ("[policy.margins]\nreconstruction = inf", "policy.margins.reconstruction is inf"),
        ('[policy]\non_invalid = "ignore"', "policy.on_invalid is 'ignore': input should be 'fail' or 'warn'"),
        ("policy = 3", "policy is 3"),
        ("[tool]\nx = 1", "no such setting: 'tool'"),
    ],
)
def test_bad_policies_are_one_line_by_dotted_name(tmp_path, content, message):
    (tmp_path / "sae-sanity.toml").write_text(content)
    with pytest.raises(UsageError, match=re.escape(message)) as caught:
        resolve({}, environ={})
    assert "\n" not in str(caught.value)


def test_bad_tables_of_pyproject_are_one_line(tmp_path):
    (tmp_path / "pyproject.toml").write_text("[tool]\nsae-sanity = 3\n")
    with pytest.raises(UsageError, match=r"tool.sae-sanity in pyproject.toml is 3; it must be a table"):
        resolve({}, environ={})


@pytest.mark.parametrize("flag", ["policy.nothing", "policy.seeds.x", "nothing.else", "policy.margins"])
def test_bad_dotted_flags_are_one_line(flag):
    with pytest.raises(UsageError) as caught:
        resolve({flag: "3"}, environ={})
    assert "\n" not in str(caught.value)


def test_a_registered_plan_lies_beside_the_file_that_names_it(tmp_path):
    folder = tmp_path / "ci"
    folder.mkdir()
    (folder / "gate.toml").write_text('[policy]\nlock = "plan.json"\n')
    assert resolve({}, environ={}, config=folder / "gate.toml").policy.lock == str(folder / "plan.json")
    assert resolve({"policy.lock": "mine.json"}, environ={}, config=folder / "gate.toml").policy.lock == "mine.json"
    (tmp_path / "sae-sanity.toml").write_text('[policy]\nlock = "/abs/plan.json"\n')
    assert resolve({}, environ={}).policy.lock == "/abs/plan.json"


@pytest.mark.parametrize("name", ["POLICY", "POLICY.ON_INVALID", "policy.on_invalid", "Policy.margins.reconstruction"])
def test_a_policy_is_not_taken_from_the_environment(name):
    """A good value would be obeyed without a word."""
    with pytest.raises(UsageError, match=re.escape(f"SAE_SANITY_{name} is set; a policy is in a file or in --set")):
        resolve({}, environ={f"SAE_SANITY_{name}": "warn"})


def test_every_field_of_the_policy_is_described():
    assert {"policy.margins", "policy.lock", "tokens"} <= set(described())
    assert all(described().values())

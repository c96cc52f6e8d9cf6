from __future__ import annotations

import inspect
import json
import shlex

import pytest
from tiny_site import TINY

from sae_sanity.harness import cli
from sae_sanity.harness import estimate as rules
from sae_sanity.harness.config import FLAGS, Settings, resolve
from sae_sanity.harness.design import make_design
from sae_sanity.harness.errors import UsageError, unknown
from sae_sanity.harness.estimate import estimate
from sae_sanity.harness.plan import ArmSeed, make_plan
from sae_sanity.harness.profiles import PROFILES
from sae_sanity.harness.record import command_line, config_hash
from sae_sanity.harness.show_plan import clusters_of, listing
from sae_sanity.harness.synthetic.config import resolve_synthetic
from sae_sanity.suites.suite import suite_classes


def settings(**changes):
    return resolve(changes, environ={})


def test_arms_and_seeds_of_the_demo():
    plan = make_plan(settings())
    assert [b.arm for b in plan.trained] == ["trained", "frozen_decoder@iso", "soft_frozen@0.8", "frozen_encoder@iso"]
    assert [b.arm for b in plan.untrained] == ["random"]
    # issue 2: at least 3 seeds of every trained arm, 5 or more of the untrained one
    assert len(plan.seeds) >= 3
    assert len(plan.random_seeds) >= 5
    assert len(plan.saes()) == 4 * 3 + 5 + 3 * 3
    assert len(set(plan.saes())) == len(plan.saes())


def test_seeds_count_up_from_the_base_seed():
    assert make_plan(settings(seed=10, seeds=2)).seeds == (10, 11)


def test_a_baseline_named_twice_is_run_once():
    plan = make_plan(settings(baselines=["frozen_decoder", "frozen_decoder@iso", "soft_frozen@0.8", "soft_frozen"]))
    assert [b.arm for b in plan.trained] == ["trained", "frozen_decoder@iso", "soft_frozen@0.8"]


def test_required_arms_are_the_nulls_of_what_a_suite_reads():
    plan = make_plan(settings(baselines=["frozen_decoder", "frozen_decoder@cov", "soft_frozen", "frozen_encoder"]))
    designs = {suite.suite: suite for suite in make_design(plan, list(suite_classes().values())).suites}
    reconstruction, probing, autointerp, editing = map(
        designs.get, ("reconstruction", "sparse_probing", "autointerp", "causal_editing")
    )
    assert reconstruction.required == ("frozen_decoder@iso", "frozen_decoder@cov", "random")
    assert probing.required == ("frozen_encoder@iso", "random")
    assert set(probing.shown) == {"frozen_decoder@iso", "frozen_decoder@cov", "soft_frozen@0.8"}
    assert reconstruction.must_lose == ("permuted_decoder", "permuted_encoder")
    assert probing.must_lose == ()
    assert probing.must_equal == ("permuted_decoder",)
    assert (autointerp.required, autointerp.must_equal) == (probing.required, probing.must_equal)
    assert (autointerp.sampled, probing.sampled) == (True, False)
    assert (editing.required, editing.must_lose) == (reconstruction.required, reconstruction.must_lose)
    assert (editing.trials, reconstruction.trials) == (True, False)


def test_margins_are_those_of_method():
    design = make_design(make_plan(settings()), list(suite_classes().values()))
    assert {s.suite: s.margin for s in design.suites} == {
        "reconstruction": 0.02,
        "sparse_probing": 0.02,
        "hard_probing": 0.01,
        "autointerp": 0.02,
        "causal_editing": 0.02,
    }


def test_clusters_are_known_before_anything_is_loaded():
    assert clusters_of(settings()) == {"reconstruction": PROFILES["demo"]["held_out_documents"], "sparse_probing": 16}
    assert clusters_of(settings(profile="release"))["sparse_probing"] == 40


@pytest.mark.parametrize(
    ("units", "arithmetic", "device", "expected"),
    [
        (True, "auto", "cpu", rules.TOKENS_PER_SECOND),
        (True, "float32", "cpu", rules.IN_FLOAT32),
        (False, "auto", "cpu", rules.IN_FLOAT32),
        (False, "bfloat16", "cpu", rules.EMULATED),
        (False, "bfloat16", "cuda", rules.TOKENS_PER_SECOND),
    ],
)
def test_texts_are_read_as_fast_as_the_cpu_can(monkeypatch, units, arithmetic, device, expected):
    monkeypatch.setattr(rules, "has_bfloat16_units", lambda: units)
    assert rules.tokens_per_second(settings(arithmetic=arithmetic, device=device)) == expected


def test_work_on_saes_is_planned_to_take_longer_on_an_older_cpu(monkeypatch):
    """Within the stages that were measured on one: 24, 283, 101 and 29 s."""
    plan = make_plan(settings())
    found = []
    for units in (True, False):
        monkeypatch.setattr(rules, "has_bfloat16_units", lambda units=units: units)
        found.append(rules.thumb_stages(plan, clusters_of(plan.settings)))
    newer, older = found
    assert newer.keys() == older.keys()
    alike = ("start", "loading", "report")
    ranges = dict.fromkeys(alike, (1, 1)) | {"training": (2.5, 2.9), "arms": (1.1, 2.0)}
    ranges |= {"activations": (4.1, 4.8), "reconstruction": (4.1, 6)}  # most of both is the language model
    for name, (least, most) in (dict.fromkeys(newer, (1.8, 4.2)) | ranges).items():
        assert least <= older[name] / newer[name] <= most, name
    measured = {"loading": 24, "activations": 283, "training": 101, "arms": 29}
    assert sum(older[name] for name in measured) == pytest.approx(sum(measured.values()), rel=0.1)


@pytest.mark.parametrize(
    ("stage", "took"),
    [("loading", 19.3), ("activations", 59.3), ("training", 8.3), ("reconstruction", 45.3), ("sparse_probing", 52.0)],
)
def test_a_short_check_is_planned_by_the_same_rules(monkeypatch, stage, took):
    """The smoke profile on the same server, measured by itself; `arms` took 4.4 to 8.4 s, planned 5.3."""
    monkeypatch.setattr(rules, "has_bfloat16_units", lambda: False)
    plan = make_plan(settings(profile="smoke"))
    assert rules.thumb_stages(plan, clusters_of(plan.settings))[stage] == pytest.approx(took, rel=0.15)


@pytest.mark.parametrize(
    ("given", "took"), [({}, 25.9), ({"d_sae": 2048}, 46.1), ({"calibration_tokens": 48_000}, 59.5)]
)
def test_autointerp_is_planned_by_what_its_saes_read(monkeypatch, given, took):
    """Measured with 15 SAEs on an older CPU, with a judge that takes no time."""
    monkeypatch.setattr(rules, "has_bfloat16_units", lambda: False)
    plan = make_plan(settings(profile="smoke", suites=["autointerp"], judge="token_statistics", **given))
    stages = rules.thumb_stages(plan, clusters_of(plan.settings))
    assert stages["autointerp"] == pytest.approx(took, rel=0.1)


@pytest.mark.parametrize("units", [True, False])
def test_worlds_are_planned_by_what_their_stages_are_held_against(monkeypatch, units):
    monkeypatch.setattr(rules, "has_bfloat16_units", lambda: units)
    asked = resolve_synthetic({"preset": "smoke"})
    planned = rules.estimate_worlds(asked).stages
    assert rules.expected_in_worlds(asked).thumbs.items() < planned.items()
    assert planned["start"] == rules.START_SECONDS


def test_estimates_grow_with_what_costs(monkeypatch):
    monkeypatch.setattr(rules, "has_bfloat16_units", lambda: True)
    plan, clusters = make_plan(settings()), clusters_of(settings())
    base = estimate(plan, clusters)
    more = estimate(make_plan(settings(tokens=2_457_600)), clusters)
    assert base.cells == 2 * len(plan.saes())
    assert 120 < base.seconds < 900  # the demo took 389 s when it was measured
    assert more.seconds > 3 * base.seconds
    assert more.tokens - base.tokens == 2_457_600 - plan.settings.tokens


def test_the_command_of_a_report_gives_the_same_settings_again(tmp_path, capsys):
    policy = {"policy.margins.reconstruction": "0.03", "policy.suites": ["reconstruction"], "policy.seeds": "2"}
    policy |= {"policy.require_lock": "true", "policy.lock": "plans/a b.json", "policy.baselines": ["random"]}
    given = resolve(TINY | {"tau": [0.8, 0.95], "seed": 3} | policy, environ={})
    command = command_line(given, settings(profile=given.profile), tmp_path)
    words = shlex.split(command)
    assert words[:2] == ["sae-sanity", "check"]
    assert words[-2:] == ["--results", str(tmp_path)]
    assert cli.main(["plan", *words[2:-2], "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["settings"]
    assert found == given.model_dump(mode="json")


def test_every_flag_of_a_setting_is_known():
    parameters = set(inspect.signature(cli.check).parameters)
    assert set(Settings.model_fields) & parameters == FLAGS | {"target"}


def test_config_hash_depends_on_every_setting():
    given = {"tau": (0.5,), "suites": ("a",), "baselines": ("a",), "profile": "smoke", "probe_datasets": "smoke"}
    base = settings()

    def other(name):
        old = getattr(base, name)
        return given[name] if name in given else old + 1 if isinstance(old, int | float) else f"{old}-other"

    # What a second judge says enters no score: it makes no other check. Of the policy see test_design.
    second = {"second_judge", "second_judge_url", "second_share"}
    deciding = set(Settings.model_fields) - second - {"policy"}
    hashes = {config_hash(base.model_copy(update={name: other(name)})) for name in deciding}
    assert len(hashes | {config_hash(base)}) == len(deciding) + 1
    assert {config_hash(base.model_copy(update={name: other(name)})) for name in second} == {config_hash(base)}


@pytest.mark.parametrize("what", ["suites", "baselines", "controls", "architectures", "profiles", "settings"])
def test_listings_say_something_of_each(what):
    rows = list(listing(what))
    assert rows
    assert all(name and line for name, line in rows)


def test_unknown_names_offer_the_closest_one():
    assert str(unknown("suite", "sparse_probin", ["a", "sparse_probing"])) == (
        "no such suite: 'sparse_probin'; did you mean 'sparse_probing'? (known: a, sparse_probing)"
    )
    assert "did you mean" not in str(unknown("suite", "zzz", ["a"]))


def test_unknown_baseline():
    with pytest.raises(UsageError, match="no such baseline"):
        make_plan(settings(baselines=["nothing_like_it"]))


def test_order_is_that_of_the_report():
    first, *_, last = make_plan(settings()).saes()
    assert first == ArmSeed("trained", 0)
    assert last == ArmSeed("random_latents", 2)

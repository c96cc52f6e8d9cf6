from __future__ import annotations

import json
import pickle
import shutil

import pytest
import torch
from loopback_hub import Fault, loopback_hub
from sae_lens.synthetic import SyntheticModel
from safetensors.torch import load_file, save_file

from sae_sanity.suites.synthetic import World, WorldSpec, load_world, make_world
from sae_sanity.suites.synthetic.sae_lens_worlds import synthsaebench_config

SPEC = WorldSpec("synthsaebench", 256, 16, 6.0, orthogonal_steps=2)
REPO = "org/worlds"
WEIGHTS, CONFIG, HIERARCHY = "synthetic_model.safetensors", "synthetic_model_config.json", "hierarchy.json"


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world") / "synth"
    SyntheticModel(synthsaebench_config(SPEC, 1)).save(folder)
    return folder


@pytest.fixture
def copy(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "copy")


@pytest.fixture
def hub(tmp_path, monkeypatch, saved):
    with loopback_hub(tmp_path / "hub") as hub:
        hub.patched(monkeypatch, tmp_path / "home")
        shutil.copytree(saved, hub.repo(REPO), dirs_exist_ok=True)
        shutil.copytree(saved, hub.repo(REPO) / "sub" / "folder", dirs_exist_ok=True)
        yield hub


def refused(source, **options):
    with pytest.raises(ValueError) as error:
        load_world(source, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_saved_world_is_the_same_world(saved):
    world, made = load_world(saved), make_world(SPEC, 1)
    assert isinstance(world, World)
    assert torch.allclose(world.features, made.features, atol=1e-6)
    assert torch.allclose(world.rates, made.rates)
    assert (world.spec.n_features, world.spec.d_in, world.seed) == (256, 16, 52)
    assert world.spec.l0 == pytest.approx(6.0, rel=0.01)
    assert world.spec.source.startswith(f"{saved}#")
    sample = world.sample(2000, seed=0)
    assert len(sample.rows) / 2000 == pytest.approx(float(world.rates.sum()), rel=0.05)
    assert len(sample.rows) == len(load_world(str(saved)).sample(2000, seed=0).rows)


def test_rates_of_the_file_are_what_is_drawn(copy):
    # SAELens would go on with the thresholds of the configuration's rates.
    weights = load_file(copy / WEIGHTS)
    weights["firing_probabilities"] = torch.full((256,), 0.25)
    save_file(weights, copy / WEIGHTS)
    shutil.rmtree(copy / HIERARCHY, ignore_errors=True)
    (copy / HIERARCHY).write_text('{"roots": []}')
    config = json.loads((copy / CONFIG).read_text())
    (copy / CONFIG).write_text(json.dumps(config | {"hierarchy": None}))
    world = load_world(copy)
    counts = torch.bincount(world.sample(20_000, seed=0).features, minlength=256) / 20_000
    assert (counts - 0.25).abs().max() < 0.02


def test_source_changes_with_the_files(saved, copy):
    weights = load_file(copy / WEIGHTS)
    weights["bias"] += 1
    save_file(weights, copy / WEIGHTS)
    first, second = (load_world(folder).spec.source.split("#")[1] for folder in (saved, copy))
    assert first != second
    assert load_world(saved).spec.source.split("#")[1] == first


@pytest.mark.parametrize("source", [REPO, f"hf://{REPO}", f"{REPO}:sub/folder"])
def test_from_the_hub(hub, saved, source, capfd):
    world = load_world(source)
    assert capfd.readouterr().err == ""
    assert torch.equal(world.features, load_world(saved).features)
    assert hub.asked_for(WEIGHTS) == 1
    load_world(source)
    assert hub.asked_for(WEIGHTS) == 1


def test_hub_copy_without_a_hierarchy_file(hub, saved):
    (hub.repo(REPO) / HIERARCHY).unlink()
    assert len(load_world(REPO).roots) == 2  # made anew from the configuration's seed, as SAELens does


def test_revision(hub, saved):
    shutil.copytree(saved, hub.root / "models" / f"{REPO}@v2")
    assert torch.equal(load_world(REPO, revision="v2").features, load_world(saved).features)
    assert "no such revision" in refused(REPO, revision="v3")


def test_hub_refuses(hub):
    assert refused("org/nothing").startswith("org/nothing: there is no such repo")
    assert "has no such file" in refused(f"{REPO}:elsewhere")
    hub.faults = {"*": Fault("gated")}
    assert "gated" in refused(REPO)


def test_hub_is_away(hub):
    hub.die()
    assert "127.0.0.1" in refused(REPO)


def test_no_world_in_the_folder(tmp_path):
    assert "has no synthetic_model_config.json" in refused(tmp_path)
    assert "has no synthetic_model_config.json" in refused("./nowhere")


def edited(folder, **changes):
    weights = load_file(folder / WEIGHTS)
    for name, change in changes.items():
        if change is None:
            del weights[name]
        else:
            weights[name] = change(weights[name]) if name in weights else change(None)
    save_file({name: tensor.contiguous() for name, tensor in weights.items()}, folder / WEIGHTS)
    return refused(folder)


def test_weights_that_do_not_fit(copy):
    original = (copy / WEIGHTS).read_bytes()
    cases = {
        "feature_vectors has shape (255, 16)": {"feature_vectors": lambda t: t[1:]},
        "bias has shape (15,)": {"bias": lambda t: t[1:]},
        "feature_vectors must be of unit length": {"feature_vectors": lambda t: t * 2},
        "feature_vectors holds values that are not finite": {"feature_vectors": lambda t: t * float("nan")},
        "bias holds values that are not finite numbers": {"bias": lambda t: t.long()},
        "firing_probabilities must be in [0, 1]": {"firing_probabilities": lambda t: t * 10},
        "correlation_diag must be above 0": {"correlation_diag": lambda t: -t},
        "it must hold feature_vectors": {"bias": None},
        "more, bias": {"more": lambda _: torch.ones(2), "correlation_diag": None},
    }
    for message, changes in cases.items():
        (copy / WEIGHTS).write_bytes(original)
        found = edited(copy, **changes)
        assert message in found or message == "more, bias"


def test_truncated_weights(copy):
    (copy / WEIGHTS).write_bytes((copy / WEIGHTS).read_bytes()[:1000])
    assert "is no safetensors file" in refused(copy)


class Exploit:
    def __reduce__(self):
        return (pytest.fail, ("unpickled",))


def test_a_pickle_is_not_opened(copy):
    (copy / WEIGHTS).write_bytes(pickle.dumps(Exploit()))
    assert "is no safetensors file" in refused(copy)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("[]", "must give num_features"),
        ('{"num_features": "many", "hidden_dim": 3}', "must give num_features"),
        ('{"num_features": 10, "hidden_dim": 0}', "must give num_features"),
        ('{"num_features": 1000000000000, "hidden_dim": 16}', "the configuration says"),
        ('{"num_features": 256, "hidden_dim": 16}', "SAELens cannot load it"),
        (
            '{"num_features": 256, "hidden_dim": 16, "firing_probability": {"generator_name": "os.system"}}',
            "SAELens cannot load it",
        ),
    ],
)
def test_bad_configurations(copy, text, message):
    (copy / CONFIG).write_text(text)
    assert message in refused(copy)


@pytest.mark.parametrize("index", [256, -1, 1.5, "0"])
def test_hierarchies_of_features_that_do_not_exist(copy, index):
    (copy / HIERARCHY).write_text(json.dumps({"roots": [{"feature_index": 5, "children": [{"feature_index": index}]}]}))
    assert "SAELens cannot load it" in refused(copy)


def test_a_bottomless_hierarchy(copy):
    depth = 3000
    (copy / HIERARCHY).write_text('{"roots": [' + '{"children": [' * depth + "]}" * depth + "]}")
    assert "SAELens cannot load it" in refused(copy)

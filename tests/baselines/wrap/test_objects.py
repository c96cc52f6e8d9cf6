"""wrap_object against SAELens' own classes, SAEBench's own classes and things that nobody knows."""

from __future__ import annotations

import copy
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from sae_lens.saes.sae import SAE
from tiny_saes import (
    D_IN,
    D_SAE,
    INFERENCE,
    TRAINING,
    activations,
    make_sae,
    make_training_sae,
    randomise,
    save,
)

from sae_sanity.baselines import CONTROLS
from sae_sanity.baselines.wrap import BadSAE, ForeignSAE, in_raw_space, load_folder, objects, shape_of, wrap_object
from sae_sanity.baselines.wrap.artefact import copy_sae


def same(ours, theirs, *, bits: bool = True):
    x = activations()
    acts = theirs.encode(x)
    assert (acts != 0).any()
    if bits:
        assert torch.equal(ours.encode(x), acts)
        assert torch.equal(ours.decode(acts), theirs.decode(acts))
    else:
        assert torch.equal(ours.encode(x) != 0, acts != 0)
        assert torch.allclose(ours.encode(x), acts, rtol=1e-5, atol=1e-5)
        assert torch.allclose(ours.decode(acts), theirs.decode(acts), rtol=1e-5, atol=1e-5)


# --- SAELens


@pytest.mark.parametrize("architecture", INFERENCE)
def test_a_sae_lens_object_is_the_folder_that_it_is_saved_as(architecture, tmp_path):
    sae = make_sae(architecture, normalize_activations="layer_norm")
    artefact, loaded = wrap_object(sae, name="x"), load_folder(save(sae, tmp_path), name="x")
    assert artefact.sha256 == loaded.sha256
    assert type(artefact.sae) is type(sae)
    same(artefact.sae, sae)
    assert {n: k.value for n, k in artefact.recipe.values.items()} == {
        n: k.value for n, k in loaded.recipe.values.items()
    }
    assert artefact.recipe.source("hook_name") == "cfg of the object"


@pytest.mark.parametrize("architecture", TRAINING)
def test_a_training_object_is_what_it_would_be_saved_as(architecture, tmp_path):
    sae = make_training_sae(architecture)
    before = copy.deepcopy(sae.state_dict())
    artefact = wrap_object(sae, name="x")
    save(sae, tmp_path)
    same(artefact.sae, SAE.load_from_disk(tmp_path))
    assert artefact.sha256 == load_folder(tmp_path, name="x").sha256
    assert artefact.recipe.get("architecture") == architecture
    assert artefact.recipe.source("architecture") == "cfg of the object"
    assert all(torch.equal(t, before[n]) for n, t in sae.state_dict().items())


def test_the_object_can_change_afterwards():
    sae = make_sae("standard")
    artefact = wrap_object(sae, name="x")
    expected = artefact.sae.encode(activations())
    with torch.no_grad():
        sae.W_enc.zero_()
    assert torch.equal(artefact.sae.encode(activations()), expected)


def test_bad_sae_lens_objects():
    training = make_training_sae("topk")
    with torch.no_grad():
        training.W_dec[0, 0] = float("nan")
    with pytest.raises(BadSAE, match=r"^mine/sae_weights.safetensors: tensor 'W_dec' has"):
        wrap_object(training, name="mine")
    sae = make_sae("standard")
    with torch.no_grad():
        sae.W_enc[0, 0] = float("nan")
    with pytest.raises(BadSAE, match="'W_enc' has 1 NaN"):
        wrap_object(sae, name="x")
    sae = make_sae("standard")
    sae.W_dec = torch.nn.Parameter(torch.zeros(D_SAE, D_IN + 1))
    with pytest.raises(BadSAE, match="'W_dec' has shape"):
        wrap_object(sae, name="x")
    with pytest.raises(BadSAE, match="covariance_whitening"):
        wrap_object(make_sae("standard", normalize_activations="covariance_whitening"), name="x")
    temporal = make_sae("temporal", n_heads=1, n_attn_layers=1, bottleneck_factor=1, kval_topk=3)
    with pytest.raises(BadSAE, match="temporal SAEs are not supported"):
        wrap_object(temporal, name="x")
    with pytest.raises(BadSAE, match="transcoder"):
        wrap_object(make_sae("transcoder", d_out=D_IN, apply_b_dec_to_input=False), name="x")


# --- SAEBench

BENCH = {
    "relu_sae.ReluSAE": ("standard", "standard"),
    "topk_sae.TopKSAE": ("topk", "topk"),
    "batch_topk_sae.BatchTopKSAE": ("batchtopk", "jumprelu"),
    "jumprelu_sae.JumpReluSAE": ("jumprelu", "jumprelu"),
    "gated_sae.GatedSAE": ("gated", "gated"),
}


def bench(path: str, dtype=torch.float32, **options):
    module, name = path.split(".")
    sae_bench = pytest.importorskip(f"sae_bench.custom_saes.{module}")
    sizes = {"d_in": D_IN} | ({} if name in ("IdentitySAE", "PCASAE") else {"d_sae": D_SAE})
    k = {"k": 4} if "TopK" in name else {}
    common = {"model_name": "pythia-70m-deduped", "hook_layer": 3, "device": torch.device("cpu"), "dtype": dtype}
    sae = getattr(sae_bench, name)(**sizes, **k, **common, **options)
    if name == "IdentitySAE":
        return sae
    integers = {n: b.clone() for n, b in sae.named_buffers() if not b.is_floating_point()}
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for key, tensor in sae.state_dict().items():
            if key not in integers:
                noise = torch.randn(tensor.shape, generator=generator)
                tensor.copy_(noise.abs() if key == "threshold" else noise)
    return sae


@pytest.mark.parametrize("path", BENCH)
def test_sae_bench_classes_become_sae_lens_classes(path, tmp_path):
    trained_as, saved_as = BENCH[path]
    theirs = bench(path)
    artefact = wrap_object(theirs, name="x")
    assert isinstance(artefact.sae, SAE)
    assert artefact.sae.cfg.architecture() == saved_as
    # Only the Gated SAE multiplies in another order.
    same(artefact.sae, theirs, bits=trained_as != "gated")
    recipe = artefact.recipe
    assert (recipe.get("architecture"), recipe.get("saved_as")) == (trained_as, saved_as)
    assert (recipe.get("model_name"), recipe.get("hook_name")) == ("pythia-70m-deduped", "blocks.3.hook_resid_post")
    assert recipe.get("k") == (4 if "TopK" in path else None)
    assert recipe.source("model_name") == recipe.source("architecture") == "SAEBench cfg"
    assert recipe.source("context_size") == recipe.source("dataset_path") == recipe.source("tokens") == "unknown"
    # The same weights in a folder are the same SAE.
    assert load_folder(save(artefact.sae, tmp_path), name="x").sha256 == artefact.sha256
    assert shape_of(recipe, l0=4.0).apply_b_dec_to_input is (trained_as != "jumprelu")
    same(in_raw_space(artefact, 0.5).sae, theirs, bits=trained_as != "gated")


def test_the_architecture_that_the_loaders_write():
    sae = bench("batch_topk_sae.BatchTopKSAE")
    sae.cfg.architecture = "matryoshka_batch_topk"
    assert wrap_object(sae, name="x").recipe.get("architecture") == "matryoshka_batchtopk"


def test_a_topk_sae_with_a_threshold():
    sae = bench("topk_sae.TopKSAE", use_threshold=True)
    artefact = wrap_object(sae, name="x")
    assert (artefact.recipe.get("architecture"), artefact.sae.cfg.architecture()) == ("topk", "jumprelu")
    same(artefact.sae, sae)
    sae.threshold.fill_(-1)
    with pytest.raises(BadSAE, match="Threshold is not set"):
        wrap_object(sae, name="x")


def test_bfloat16_is_measured_in_float32():
    sae = bench("relu_sae.ReluSAE", dtype=torch.bfloat16)
    artefact = wrap_object(sae, name="x")
    assert isinstance(artefact.sae, SAE)
    assert artefact.recipe.get("dtype") == "bfloat16"
    same(artefact.sae, copy.deepcopy(sae).to(dtype=torch.float32))
    assert sae.W_enc.dtype == torch.bfloat16


@pytest.mark.parametrize("path", ["identity_sae.IdentitySAE", "pca_sae.PCASAE"])
def test_what_was_never_trained_stays_foreign(path):
    theirs = bench(path)
    artefact = wrap_object(theirs, name="x")
    assert isinstance(artefact.sae, ForeignSAE)
    same(artefact.sae, theirs)
    assert artefact.recipe.source("architecture") == "unknown"
    with pytest.raises(ValueError, match="nothing to train"):
        shape_of(artefact.recipe, l0=4.0)
    assert shape_of(artefact.recipe.with_values("flag", architecture="topk"), l0=4.0).architecture == "topk"
    assert in_raw_space(artefact, 0.5) is artefact


def test_a_subclass_that_does_something_else_stays_foreign():
    base = type(bench("relu_sae.ReluSAE"))

    class Shifted(base):
        def encode(self, x):
            return super().encode(x) * 1.001

    cfg = {"model_name": "m", "hook_layer": 3, "device": torch.device("cpu"), "dtype": torch.float32}
    sae = randomise(Shifted(D_IN, D_SAE, **cfg))
    artefact = wrap_object(sae, name="x")
    assert isinstance(artefact.sae, ForeignSAE)
    same(artefact.sae, sae)


def test_sae_bench_is_never_imported():
    code = "import sys, sae_sanity.baselines.wrap; print([m for m in sys.modules if m.startswith('sae_bench')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# --- anything else


class Plain:
    """No module, no SAELens: tied weights and a ReLU."""

    def __init__(self, seed: int = 0, **cfg):
        generator = torch.Generator().manual_seed(seed)
        self.W_enc = torch.randn(D_IN, D_SAE, generator=generator)
        self.W_dec = torch.randn(D_SAE, D_IN, generator=generator)
        self.bias = torch.randn(D_SAE, generator=generator)
        self.cfg = SimpleNamespace(
            **{"d_in": D_IN, "d_sae": D_SAE, "hook_name": "h", "training_tokens": -100_000, **cfg}
        )

    def encode(self, x):
        return torch.relu(x @ self.W_enc + self.bias)

    def decode(self, acts):
        return acts @ self.W_dec


def test_anything_with_the_interface():
    plain = Plain(architecture="topk", prepend_bos=False)
    artefact = wrap_object(plain, name="x")
    sae = artefact.sae
    assert isinstance(sae, ForeignSAE)
    same(sae, plain)
    assert (sae.cfg.d_in, sae.cfg.d_sae, sae.cfg.architecture(), sae.cfg.metadata.hook_name) == (
        D_IN,
        D_SAE,
        "foreign",
        "h",
    )
    assert (sae.dtype, sae.device) == (torch.float32, torch.device("cpu"))
    assert sae.W_dec is plain.W_dec
    assert artefact.recipe.get("architecture") == "topk"
    assert artefact.recipe.get("prepend_bos") is False
    assert artefact.recipe.source("hook_name") == "cfg of the object"
    assert artefact.recipe.source("tokens") == "unknown"


@pytest.mark.parametrize("cfg", [{"d_in": D_IN, "d_sae": D_SAE, "metadata": {"model_name": "m"}}, None])
def test_a_configuration_may_be_a_mapping(cfg):
    plain = Plain()
    plain.cfg = cfg
    if cfg is None:
        with pytest.raises(BadSAE, match="without cfg"):
            wrap_object(plain, name="x")
    else:
        assert wrap_object(plain, name="x").recipe.get("model_name") == "m"


def test_the_hash_of_a_foreign_sae():
    first = wrap_object(Plain(), name="x").sha256
    assert wrap_object(Plain(), name="y").sha256 == first
    assert wrap_object(Plain(seed=1), name="x").sha256 != first
    changed = Plain()
    changed.bias[0] += 1e-6
    assert wrap_object(changed, name="x").sha256 != first
    changed = Plain()
    changed.sharpness = 2.0
    assert wrap_object(changed, name="x").sha256 != first


def test_keeping_latents():
    sae = wrap_object(Plain(), name="x").sae
    kept = sae.keep_latents(torch.tensor([3, 0, 7]))
    x = activations()
    assert torch.equal(kept.encode(x), sae.encode(x)[:, [3, 0, 7]])
    only = torch.zeros(len(x), D_SAE)
    only[:, [3, 0, 7]] = kept.encode(x)
    assert torch.equal(kept.decode(kept.encode(x)), sae.decode(only))
    assert torch.equal(kept.W_enc, sae.W_enc[:, [3, 0, 7]])
    assert torch.equal(kept.W_dec, sae.W_dec[[3, 0, 7]])
    assert (kept.cfg.d_sae, sae.cfg.d_sae) == (3, D_SAE)
    assert torch.equal(kept.keep_latents(torch.tensor([2])).encode(x), sae.encode(x)[:, [7]])
    assert len({kept.sha256, sae.sha256, sae.keep_latents(torch.tensor([3, 0, 8])).sha256}) == 3


def test_controls_work_on_a_foreign_sae():
    artefact = wrap_object(Plain(), name="x")
    x, acts = activations(), artefact.sae.encode(activations())
    before = artefact.sae.decode(acts)
    permuted = CONTROLS["permuted_decoder"].derive(artefact.sae, torch.Generator().manual_seed(0))
    assert torch.equal(permuted.encode(x), acts)
    assert not torch.allclose(permuted.decode(acts), before)
    assert torch.equal(artefact.sae.decode(acts), before)
    thinned = CONTROLS["random_latents"].derive(artefact.sae, torch.Generator().manual_seed(0))
    assert thinned.encode(x).shape == (len(x), D_SAE // 2)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda p: delattr(p, "W_dec"), "W_dec is a NoneType"),
        (lambda p: setattr(p, "W_enc", [[1.0]]), "W_enc is a list"),
        (lambda p: setattr(p, "W_dec", p.W_dec.T), "W_dec has shape [8, 20]; cfg needs [20, 8]"),
        (lambda p: setattr(p, "encode", None), "no method encode"),
        (lambda p: setattr(p.cfg, "d_sae", 21), "cfg needs [8, 21]"),
        (lambda p: setattr(p.cfg, "d_in", None), "cfg.d_in is None"),
        (lambda p: p.W_enc.view(-1)[3].fill_(float("inf")), "W_enc holds NaN or Inf"),
        (lambda p: p.bias.fill_(float("nan")), "bias holds NaN or Inf"),
        (lambda p: setattr(p, "encode", lambda x: x), "encode returns [8, 8]"),
        (lambda p: setattr(p, "decode", lambda x: x @ p.W_dec / 0), "decode gives NaN or Inf"),
        (lambda p: setattr(p, "decode", lambda x: 1 // 0), "ZeroDivisionError"),
        (lambda p: setattr(p, "W_enc", p.W_enc.requires_grad_() * 2), "computed from other tensors"),
    ],
)
def test_bad_objects(change, word):
    plain = Plain()
    change(plain)
    with pytest.raises(BadSAE) as error:
        wrap_object(plain, name="mine")
    assert word in str(error.value)
    assert str(error.value).startswith("mine: ")
    assert "\n" not in str(error.value)


def test_something_that_is_no_sae():
    with pytest.raises(BadSAE, match="a int without cfg"):
        wrap_object(3, name="x")


# --- subclasses of SAELens' classes


def subclass_of(base):
    class Mine(base):
        def encode(self, x):
            return 2 * super().encode(x)

    return Mine


def subclassed(sae):
    """The same SAE, of a class of its own."""
    mine = subclass_of(type(sae))(sae.cfg)
    mine.load_state_dict(sae.state_dict())
    return mine


@pytest.mark.parametrize("architecture", [a for a in TRAINING if a != "matching_pursuit"])
def test_a_subclass_is_measured_by_its_own_encode(architecture):
    for sae in (make_training_sae(architecture), *([make_sae(architecture)] if architecture in INFERENCE else [])):
        mine = subclassed(sae)
        artefact = wrap_object(mine, name="x")
        assert isinstance(artefact.sae, ForeignSAE)
        with torch.no_grad():
            same(artefact.sae, mine)
            assert torch.equal(artefact.sae.encode(activations()), 2 * sae.encode(activations()))
        # Its baselines are those of the class that it extends; of what it is saved as nothing is known.
        assert artefact.recipe.get("architecture") == architecture
        assert artefact.recipe.source("saved_as") == "unknown"


def test_an_encode_of_the_object_itself_counts_too():
    sae = make_sae("topk")
    sae.encode = lambda x: torch.relu(x @ sae.W_enc)
    artefact = wrap_object(sae, name="x")
    assert isinstance(artefact.sae, ForeignSAE)
    with torch.no_grad():
        same(artefact.sae, sae)


def test_a_subclass_knows_how_the_class_that_it_extends_was_trained():
    sae = make_sae("jumprelu", metadata={"training_architecture": "batchtopk"}, normalize_activations="layer_norm")
    recipe = wrap_object(subclassed(sae), name="x").recipe
    assert (recipe.get("architecture"), recipe.get("normalize_activations")) == ("batchtopk", "layer_norm")
    assert shape_of(recipe, l0=4.0).normalize_activations == "layer_norm"


def test_a_subclass_with_heads_gets_flat_activations():
    hook_z = {"hook_name": "blocks.1.attn.hook_z"}
    mine = subclassed(make_sae("standard", metadata=hook_z, reshape_activations="hook_z"))
    artefact = wrap_object(mine, name="x")
    flat = subclassed(make_sae("standard"))
    same(artefact.sae, flat)
    assert mine.hook_z_reshaping_mode


@pytest.mark.parametrize(
    ("sae", "word"),
    [
        (lambda: make_sae("standard", normalize_activations="expected_average_only_in"), "fold"),
        (lambda: make_sae("standard", normalize_activations="covariance_whitening"), "fold"),
        (lambda: make_sae("standard", metadata={"hook_head_index": 2}), "one head"),
        (lambda: make_sae("transcoder", d_out=D_IN, apply_b_dec_to_input=False), "read one site and write another"),
    ],
)
def test_subclasses_that_cannot_be_measured(sae, word):
    with pytest.raises(BadSAE, match=word) as error:
        wrap_object(subclassed(sae()), name="mine")
    assert str(error.value).startswith("mine: ")
    assert "\n" not in str(error.value)


def test_a_control_of_a_subclass_leaves_the_norms_of_its_tokens_alone():
    artefact = wrap_object(subclassed(make_sae("standard", normalize_activations="layer_norm")), name="x")
    control = CONTROLS["permuted_decoder"].derive(artefact.sae, torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = artefact.sae(activations())
        acts = artefact.sae.encode(activations())
        control(activations(seed=6, scale=9.0))
        assert torch.equal(artefact.sae.decode(acts), expected)


# --- what only the outputs tell, and other devices


class Nested(Plain):
    """Its k is a number in its cfg, which no tensor and no attribute shows."""

    def encode(self, x):
        acts = super().encode(x)
        top = acts.topk(self.cfg.k, dim=-1)
        return torch.zeros_like(acts).scatter(-1, top.indices, top.values)


def test_the_hash_tells_settings_inside_cfg_and_other_code():
    four, eight = (wrap_object(Nested(k=k), name="x").sha256 for k in (4, 8))
    assert four != eight
    assert wrap_object(Nested(k=4), name="x").sha256 == four

    def edited(**methods):
        # The same name, as after an edit of the file.
        return type("Nested", (Nested,), {**methods, "__qualname__": "Nested", "__module__": Nested.__module__})(k=4)

    assert wrap_object(edited(), name="x").sha256 == four
    encode = edited(encode=lambda self, x: Nested.encode(self, x) * 1.001)
    decode = edited(decode=lambda self, acts: acts @ self.W_dec * 1.001)
    assert len({four, wrap_object(encode, name="x").sha256, wrap_object(decode, name="x").sha256}) == 3


def test_the_hash_does_not_depend_on_threads_or_the_callers_dice():
    sae = wrap_object(Plain(), name="x").sae
    sae.inner.encode = lambda x: torch.relu(x @ sae.inner.W_enc) * torch.rand(())
    first, threads = sae.sha256, torch.get_num_threads()
    torch.rand(3)
    state = torch.random.get_rng_state()
    try:
        torch.set_num_threads(2)
        assert sae.sha256 == first
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_activations_go_to_the_objects_device_and_back(monkeypatch):
    sae, seen = wrap_object(Plain(), name="x").sae, []

    def on_cpu(size):
        def method(x):
            seen.append(x.device.type)
            return torch.zeros(len(x), size)

        return method

    sae.inner.encode, sae.inner.decode = on_cpu(D_SAE), on_cpu(D_IN)
    monkeypatch.setattr(ForeignSAE, "device", torch.device("meta"))
    assert sae.encode(activations()).device.type == "cpu"
    assert sae.decode(torch.zeros(3, D_SAE)).device.type == "cpu"
    assert seen == ["meta", "meta"]
    assert sae.encode(activations().to("meta")).device.type == "meta"
    assert sae.decode(torch.zeros(3, D_SAE, device="meta")).device.type == "meta"


def test_an_object_is_measured_on_the_cpu(monkeypatch):
    assert copy_sae(make_sae("topk"), device="meta").W_enc.device.type == "meta"
    asked = []

    def recorded(sae, *, device):
        asked.append(device)
        return copy_sae(sae, device=device)

    monkeypatch.setattr(objects, "copy_sae", recorded)
    assert wrap_object(make_sae("topk"), name="x").sae.device == torch.device("cpu")
    assert asked == ["cpu"]


def test_a_sae_bench_object_is_mapped_on_the_cpu(monkeypatch):
    theirs = bench("relu_sae.ReluSAE")
    asked = []
    monkeypatch.setattr(
        type(theirs), "to", lambda self, **where: (asked.append(where), super(type(theirs), self).to(**where))[1]
    )
    wrap_object(theirs, name="x")
    assert asked[0] == {"device": torch.device("cpu"), "dtype": torch.float32}


def test_a_gated_sae_that_overflows_is_refused_in_words():
    sae = make_sae("gated")
    with torch.no_grad():
        sae.r_mag.fill_(39.0)
        sae.W_enc.mul_(1e11)
        sae.W_dec.fill_(1e14)
    with pytest.raises(BadSAE) as error:
        in_raw_space(wrap_object(sae, name="mine"), 1.0)
    assert "\n" not in str(error.value)
    assert str(error.value).startswith("mine: decode gives NaN or Inf for activations of size 1000")
    assert "too large" in str(error.value)

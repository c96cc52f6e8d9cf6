"""Tiny SAELens SAEs with random numbers in every parameter, and folders of them."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from sae_lens.registry import get_sae_class, get_sae_training_class
from sae_lens.saes.sae import SAE, SAEMetadata
from sae_lens.saes.topk_sae import TopKSAE, TopKSAEConfig

torch.set_num_threads(1)

D_IN, D_SAE = 8, 20
INFERENCE = ("standard", "topk", "abstopk", "jumprelu", "gated", "matching_pursuit")
TRAINING = (*INFERENCE, "batchtopk", "matryoshka_batchtopk")
METADATA = {
    "model_name": "tiny",
    "hook_name": "blocks.1.hook_resid_post",
    "hook_head_index": None,
    "context_size": 32,
    "prepend_bos": True,
    "dataset_path": "some/texts",
    "model_from_pretrained_kwargs": {},
}
OPTIONS = {"topk": {"k": 4}, "abstopk": {"k": 4}, "matching_pursuit": {"max_iterations": 5}}


def tied_topk(seed: int = 0, *, d_sae: int = 48, k: int = 4, **metadata: object) -> TopKSAE:
    """A TopK SAE of the tiny GPT-2 with unit rows, tied: not trained, but a real SAE."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.nn.functional.normalize(torch.randn(d_sae, 16, generator=generator), dim=-1)
    facts = {"hook_name": METADATA["hook_name"], "context_size": 32, "prepend_bos": True} | metadata
    sae = TopKSAE(TopKSAEConfig(d_in=16, d_sae=d_sae, k=k, metadata=SAEMetadata(**facts)))
    zeros = {"b_enc": torch.zeros(d_sae), "b_dec": torch.zeros(16)}
    sae.load_state_dict({"W_dec": rows, "W_enc": rows.T.contiguous()} | zeros)
    return sae


def randomise(sae, seed: int = 0):
    """Give every parameter its own numbers: zero biases hide most mistakes."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in sorted(sae.state_dict().items()):
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(noise.abs() * 0.5 if name in ("threshold", "topk_threshold") else noise * 0.5)
    return sae


def make_sae(architecture: str, *, seed: int = 0, metadata=None, **options) -> SAE:
    sae_class, cfg_class = get_sae_class(architecture)
    options = {**OPTIONS.get(architecture, {}), **options}
    metadata = SAEMetadata(**{**METADATA, **(metadata or {})})
    return randomise(sae_class(cfg_class(d_in=D_IN, d_sae=D_SAE, metadata=metadata, **options)), seed)


def make_training_sae(architecture: str, *, seed: int = 0, **options):
    sae_class, cfg_class = get_sae_training_class(architecture)
    own = {
        "batchtopk": {"k": 4.5, "topk_threshold_lr": 0.02},
        "matryoshka_batchtopk": {"k": 4.0, "matryoshka_widths": [5, 10, 20]},
        "standard": {"l1_coefficient": 3.0, "lp_norm": 0.5},
        "gated": {"l1_coefficient": 2.0},
        "jumprelu": {"l0_coefficient": 0.7, "jumprelu_bandwidth": 0.1},
        "matching_pursuit": {"max_iterations": 5, "decoder_init_norm": 1.0},
    }
    options = {**OPTIONS.get(architecture, {}), **own.get(architecture, {}), **options}
    cfg = cfg_class(d_in=D_IN, d_sae=D_SAE, metadata=SAEMetadata(**METADATA, l0=4.2), **options)
    return randomise(sae_class(cfg), seed)


def save(sae, folder: Path, **changes) -> Path:
    """Save with SAELens, then change cfg.json; a change to None takes the key away."""
    (getattr(sae, "save_inference_model", None) or sae.save_model)(folder)
    return edit(folder, **changes)


def edit(folder: Path, **changes) -> Path:
    path = folder / "cfg.json"
    cfg = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({k: v for k, v in cfg.items() if v is not None}))
    return folder


def activations(n: int = 64, seed: int = 5, scale: float = 2.0) -> torch.Tensor:
    return scale * torch.randn(n, D_IN, generator=torch.Generator().manual_seed(seed)) + 0.3

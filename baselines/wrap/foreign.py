"""An SAE that SAELens has no class for: anything with encode, decode, W_enc, W_dec and cfg."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float, Int
from sae_lens.saes.sae import SAEMetadata
from torch import nn

from .errors import BadSAE
from .hashing import hash_tensors


@dataclass
class ForeignConfig:
    """What is read of the configuration of an SAE; it can be changed, as SAELens' can."""

    d_in: int
    """Width of the activations."""
    d_sae: int
    """Number of latents."""
    metadata: SAEMetadata = field(default_factory=SAEMetadata)
    """Model and hook, where the object names them."""
    dtype: str = "float32"
    """What `encode` and `decode` return."""
    normalize_activations: str = "none"
    """A foreign SAE reads raw activations."""

    def architecture(self) -> str:
        """Return "foreign"."""
        return "foreign"


class ForeignSAE(nn.Module):
    """The part of SAELens' interface that suites and controls use, over somebody else's object.

    `encode` and `decode` are the object's own and get its dtype on its device; what they return is made float32 on the
    device that the question came from.
    """

    def __init__(self, inner: Any, cfg: ForeignConfig, kept: torch.Tensor | None = None) -> None:  # noqa: ANN401
        super().__init__()
        self.inner = inner
        self.cfg = cfg
        self.kept = kept

    def _select(self, weight: torch.Tensor, axis: int) -> torch.Tensor:
        return weight if self.kept is None else weight.index_select(axis, self.kept)

    @property
    def W_enc(self) -> torch.Tensor:  # noqa: N802
        """Encoder, [d_in, d_sae]; the object's own tensor, to be edited in place, unless latents were left out."""
        return self._select(self.inner.W_enc, 1)

    @property
    def W_dec(self) -> torch.Tensor:  # noqa: N802
        """Decoder, [d_sae, d_in]; the object's own tensor, to be edited in place, unless latents were left out."""
        return self._select(self.inner.W_dec, 0)

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the object's decoder."""
        return self.inner.W_dec.dtype

    @property
    def device(self) -> torch.device:
        """Device of the object's decoder."""
        return self.inner.W_dec.device

    @property
    def sha256(self) -> str:
        """Hash of the object's tensors, its plain settings, its class, the latents that are kept, and what it does.

        Settings within settings and the code of `encode` and `decode` show in what these return for fixed activations,
        to the last bit: another machine may give the same SAE another hash.
        """
        # First, so that what an object remembers of its last activations is always the same.
        outputs = _probe(self)
        kind = type(self.inner)
        settings = {n: v for n, v in _attributes(self.inner).items() if isinstance(v, bool | int | float | str)}
        kept = {} if self.kept is None else {"(kept)": self.kept}
        settings.pop("training", None)
        return hash_tensors(
            {**tensors_of(self.inner), **kept, **outputs},
            {"class": f"{kind.__module__}.{kind.__qualname__}", **settings},
        )

    def encode(self, x: Float[torch.Tensor, "... d_in"]) -> Float[torch.Tensor, "... d_sae"]:
        """Return the activations of the latents, float32."""
        return self._select(self.inner.encode(x.to(self.device, self.dtype)), -1).to(x.device, torch.float32)

    def decode(self, feature_acts: Float[torch.Tensor, "... d_sae"]) -> Float[torch.Tensor, "... d_in"]:
        """Return the reconstruction, float32."""
        acts = feature_acts.to(self.device, self.dtype)
        if self.kept is not None:
            whole = acts.new_zeros((*acts.shape[:-1], self.inner.W_dec.shape[0]))
            acts = whole.index_copy(-1, self.kept, acts)
        return self.inner.decode(acts).to(feature_acts.device, torch.float32)

    def forward(self, x: Float[torch.Tensor, "... d_in"]) -> Float[torch.Tensor, "... d_in"]:
        """Encode and decode."""
        return self.decode(self.encode(x))

    def keep_latents(self, indices: Int[torch.Tensor, " kept"]) -> ForeignSAE:
        """Return an SAE of some of the latents, on the same weights: the others never fire and are not there."""
        kept = indices if self.kept is None else self.kept[indices]
        cfg = ForeignConfig(self.cfg.d_in, len(kept), self.cfg.metadata, self.cfg.dtype)
        return ForeignSAE(self.inner, cfg, kept.to(self.device))


_PROBES = (0.1, 1.0, 10.0, 100.0, 1000.0)
"""Sizes of the activations that are hashed through an SAE."""


@contextmanager
def _repeatable() -> Iterator[None]:
    """One thread and one seed: sums in another order end in other bits, and an object may draw numbers."""
    threads = torch.get_num_threads()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(threads)


@torch.no_grad()
def _probe(sae: ForeignSAE) -> dict[str, torch.Tensor]:
    """What an SAE returns for fixed activations of `_PROBES`, by name."""
    generator, outputs = torch.Generator().manual_seed(0), {}
    for size in _PROBES:
        x = size * torch.randn(16, sae.cfg.d_in, generator=generator)
        with _repeatable():
            acts = sae.encode(x)
            outputs |= {f"(encode {size:g})": acts, f"(decode {size:g})": sae.decode(acts)}
    return outputs


def _attributes(inner: object) -> dict[str, Any]:
    return {n: v for n, v in getattr(inner, "__dict__", {}).items() if not n.startswith("_")}


def tensors_of(inner: object) -> dict[str, torch.Tensor]:
    """Every named tensor of an object: the state of a module, else its attributes; W_enc and W_dec always."""
    named = inner.state_dict() if isinstance(inner, nn.Module) else _attributes(inner)
    always = {name: getattr(inner, name) for name in ("W_enc", "W_dec")}
    return {n: v for n, v in {**always, **named}.items() if isinstance(v, torch.Tensor)}


def new_foreign(inner: object, cfg: ForeignConfig, where: str) -> ForeignSAE:
    """Wrap an object after trying it.

    Args:
        inner: the object.
        cfg: its sizes.
        where: its name, for errors.

    Raises:
        BadSAE: an attribute is missing, has the wrong shape or holds NaN or Inf, or `encode` or `decode` fail or do not
            return finite activations of the right shape.
    """
    for name in ("encode", "decode"):
        if not callable(getattr(inner, name, None)):
            raise BadSAE(f"{where}: no method {name}; encode, decode, W_enc, W_dec and cfg are needed")
    for name, shape in {"W_enc": (cfg.d_in, cfg.d_sae), "W_dec": (cfg.d_sae, cfg.d_in)}.items():
        _check_weight(getattr(inner, name, None), name, shape, where)
    for name, tensor in tensors_of(inner).items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise BadSAE(f"{where}: {name} holds NaN or Inf; finite numbers are needed")
    sae = ForeignSAE(inner, cfg)
    check_output(sae, where)
    return sae


def _check_weight(weight: object, name: str, shape: tuple[int, int], where: str) -> None:
    if not isinstance(weight, torch.Tensor) or not weight.is_floating_point():
        raise BadSAE(f"{where}: {name} is a {type(weight).__name__}; a float tensor of shape {list(shape)} is needed")
    if tuple(weight.shape) != shape:
        raise BadSAE(f"{where}: {name} has shape {list(weight.shape)}; cfg needs {list(shape)}")
    if weight.requires_grad and not weight.is_leaf:
        raise BadSAE(f"{where}: {name} is computed from other tensors; a parameter or a detached tensor is needed")


PROBE_SCALE = 1e3
"""Size of the activations on which an SAE is tried: those of language models reach tens of thousands."""


@torch.no_grad()
def check_output(sae: Any, where: str, *, decode: bool = True) -> None:  # noqa: ANN401
    """Check that an SAE returns finite activations and reconstructions of the right shapes.

    Args:
        sae: reads flat activations, [..., d_in].
        where: its name, for errors.
        decode: whether to try `decode` too.

    Raises:
        BadSAE: it does not.
    """
    generator = torch.Generator().manual_seed(0)
    x = PROBE_SCALE * torch.randn(4, sae.cfg.d_in, generator=generator).to(sae.device)
    # Both signs: what overflows below 0 is hidden by a ReLU.
    x = torch.cat([x, -x])
    try:
        acts = sae.encode(x)
        _check_numbers("encode", acts, (len(x), sae.cfg.d_sae), where)
        if decode:
            _check_numbers("decode", sae.decode(acts), (len(x), sae.cfg.d_in), where)
    except BadSAE:
        raise
    except Exception as error:
        raise BadSAE(f"{where}: fails on activations {list(x.shape)}: {type(error).__name__}: {error}") from None


def _check_numbers(name: str, output: object, shape: tuple[int, int], where: str) -> None:
    if not isinstance(output, torch.Tensor) or tuple(output.shape) != shape:
        got = list(output.shape) if isinstance(output, torch.Tensor) else type(output).__name__
        raise BadSAE(f"{where}: {name} returns {got}; {list(shape)} is needed")
    if not bool(output.isfinite().all()):
        raise BadSAE(
            f"{where}: {name} gives NaN or Inf for activations of size {PROBE_SCALE:g}, which language models reach; "
            "finite numbers are needed (are its weights too large for their dtype?)"
        )

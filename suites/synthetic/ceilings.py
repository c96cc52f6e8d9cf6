"""What bounds the scores of a world: codes that no encoder finds, a dictionary without information, and chance."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Literal, get_args

import torch
from jaxtyping import Float
from scipy import integrate, special
from torch.nn.functional import normalize

from ...results.scores import Row
from .scores import world_rows
from .truth import Truth, world_name

Coder = Literal["least_squares", "omp"]

BATCH = 1024
"""Samples coded at once: with 16,384 atoms their projections take 64 MiB."""


def code_ev(
    world: Truth, dictionary: Float[torch.Tensor, "m d_in"], *, k: int, coder: Coder, n_samples: int, seed: int
) -> float:
    """Explained variance that a dictionary reaches with k atoms a sample, whatever the encoder.

    Activations are centred by their mean, coded, and the mean is added back. Both coders pick atoms by projection,
    and only where it is positive, as latents of an SAE are: in the paper's worlds that moves a random dictionary
    from .935 to .906 with OMP. Magnitudes are the least-squares ones of the whole support and may have either sign.

    Args:
        world: what is coded.
        dictionary: directions of any length; a row of zeros is never picked.
        k: atoms a sample; fewer where no projection is positive any more.
        coder: `least_squares` picks the k largest projections at once, as a tied one-shot encoder would; `omp` is
            orthogonal matching pursuit (Pati et al. 1993; `sklearn.linear_model.orthogonal_mp` on one sample).
        n_samples: how many samples are coded.
        seed: of the sample.

    Raises:
        ValueError: `k` is not between 1 and the number of directions, or there is no such coder.
    """
    if not 1 <= k <= len(dictionary):
        msg = f"k is {k}; it must be between 1 and the {len(dictionary)} directions of the dictionary"
        raise ValueError(msg)
    if coder not in get_args(Coder):
        msg = f"no coder {coder!r}; there are {', '.join(get_args(Coder))}"
        raise ValueError(msg)
    acts = world.sample(n_samples, seed=seed).activations.to(dictionary.device)
    centred, atoms = acts - acts.mean(0), normalize(dictionary.detach(), dim=1)
    left = sum(float(residuals(x, atoms, k=k, coder=coder).double().pow(2).sum()) for x in centred.split(BATCH))
    return 1.0 - left / float(centred.double().pow(2).sum())


@torch.no_grad()
def residuals(
    x: Float[torch.Tensor, "n d_in"], atoms: Float[torch.Tensor, "m d_in"], *, k: int, coder: Coder
) -> Float[torch.Tensor, "n d_in"]:
    """Return what is left of each row after k atoms (unit rows), picked as in `code_ev`.

    Picked atoms are made orthonormal one by one, so that no least-squares problem is solved: its residual is what
    remains after each has been taken out. All rows go together, which sklearn's loop over samples does not.
    """
    left, picked = x.clone(), torch.zeros(len(x), k, dtype=torch.int64, device=x.device)
    basis = x.new_zeros(len(x), k, x.shape[1])
    scores = x @ atoms.T
    if coder == "least_squares":
        picked = scores.topk(k, dim=1).indices
    for step in range(k):
        if coder == "omp":
            scores = left @ atoms.T
            scores.scatter_(1, picked[:, :step], -math.inf)
            picked[:, step] = scores.argmax(1)
        index = picked[:, step]
        wanted = scores.gather(1, index[:, None]) > 0
        basis[:, step] = _orthonormal(atoms[index], basis[:, :step]) * wanted
        left = left - basis[:, step] * (left * basis[:, step]).sum(1, keepdim=True)
    return left


def _orthonormal(
    v: Float[torch.Tensor, "n d_in"], basis: Float[torch.Tensor, "n k d_in"]
) -> Float[torch.Tensor, "n d_in"]:
    """Unit part of `v` outside the basis; zeros where it lies inside."""
    for _ in range(2):  # twice is enough (Kahan): once loses orthogonality where v nearly lies inside
        v = v - torch.einsum("nk,nkd->nd", torch.einsum("nd,nkd->nk", v, basis), basis)
    length = v.norm(dim=1, keepdim=True)
    return torch.where(length > 1e-5, v / length, 0.0)


def ceiling_rows(
    world: Truth, dictionary: Float[torch.Tensor, "m d_in"], *, k: int, n_samples: int, seed: int
) -> list[Row]:
    """Return `explained_variance_ls` and `explained_variance_omp` of a dictionary: see `code_ev`."""
    name = world_name(world.seed)
    coders: dict[str, Coder] = {"ls": "least_squares", "omp": "omp"}
    return [
        Row(
            f"explained_variance_{short}",
            name,
            name,
            code_ev(world, dictionary, k=k, coder=coder, n_samples=n_samples, seed=seed),
        )
        for short, coder in coders.items()
    ]


class MeanDirection:
    """An SAE that knows the mean and nothing else: no latent ever fires, every decoder row points at the mean."""

    def __init__(self, mean: Float[torch.Tensor, " d_in"], d_sae: int) -> None:
        """Make `d_sae` equal rows."""
        self.mean, self.W_dec = mean, normalize(mean, dim=0).expand(d_sae, -1)
        self.cfg = SimpleNamespace(d_in=len(mean), d_sae=d_sae)

    def encode(self, x: torch.Tensor, /) -> torch.Tensor:
        """Return zeros."""
        return x.new_zeros(*x.shape[:-1], len(self.W_dec))

    def decode(self, feature_acts: torch.Tensor, /) -> torch.Tensor:
        """Return the mean."""
        return self.mean.expand(*feature_acts.shape[:-1], -1)


def nothing_rows(world: Truth, d_sae: int, *, n_samples: int, seed: int) -> list[Row]:
    """Score a dictionary without information, all of whose rows point at the mean activation.

    Every metric of `world_rows`, with the same items. Its explained variance is 0 by definition (that of the mean),
    not up to rounding.

    Args:
        world: the truth.
        d_sae: number of rows.
        n_samples: as for the SAEs that it is shown beside.
        seed: as for them: which features have firing rows depends on the sample.
    """
    mean = world.sample(n_samples, seed=seed).activations.double().mean(0).float()
    rows = world_rows(MeanDirection(mean, d_sae), world, n_samples=n_samples, seed=seed)
    return [row._replace(value=0.0) if row.metric == "explained_variance" else row for row in rows]


def expected_max_cosine(d: int, m: int) -> float:
    """Mean of the largest of the cosines between one direction and `m` uniform random ones in R^d: chance.

    A cosine t has (1 + t) / 2 ~ Beta((d - 1) / 2, (d - 1) / 2), with distribution function F, so that the mean of
    the largest is 1 - the integral of F(t)^m over [-1, 1]. It is .348 for 3,200 directions in R^100.

    Raises:
        ValueError: `d` is below 2 or `m` below 1.
    """
    if d < 2 or m < 1:
        msg = f"d is {d} and m is {m}; there must be at least 2 dimensions and 1 direction"
        raise ValueError(msg)
    half = (d - 1) / 2

    def all_below(t: float) -> float:
        # From the upper tail: F itself rounds to 1 where F^m still differs from it.
        above = float(special.betainc(half, half, (1 - t) / 2))
        return math.exp(m * math.log1p(-above)) if above < 1 else 0.0

    # The step of F^m lies within a few 1 / sqrt(d) of 0, where a rule for all of [-1, 1] need not look.
    steps = {c / math.sqrt(d) for c in (-8, -4, -2, 0, 2, 4, 8)}
    below, *_ = integrate.quad(all_below, -1.0, 1.0, points=sorted(c for c in steps if abs(c) < 1), limit=500)
    return 1.0 - below

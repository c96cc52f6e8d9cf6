"""Matching pursuit's L0: what its iterations would pick, and the stopping rule that leaves the wanted number."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from sae_lens.saes.matching_pursuit_sae import MatchingPursuitSAE

Picks = Float[torch.Tensor, "tokens steps"]

MOST_PICKS = 1.5
"""Iterations that are tried, as a multiple of the wanted L0: an SAE that picks old latents again needs more of them."""


@torch.no_grad()
def picks(sae: MatchingPursuitSAE, x: Float[torch.Tensor, "tokens d_in"], steps: int) -> Picks:
    """Return, for every iteration, the residual threshold up to which it still adds a latent; -inf where it adds none.

    It does what SAELens' encode does with a threshold of 0. A token stops once its residual has been shorter than
    the threshold, so what counts at an iteration is the shortest residual before it; the first one is always taken.
    """
    residual = sae.process_sae_in(x)
    support = torch.zeros(len(x), sae.cfg.d_sae, dtype=torch.bool, device=x.device)
    going = torch.ones(len(x), 1, dtype=torch.bool, device=x.device)
    shortest = torch.full((len(x), 1), math.inf, device=x.device)
    columns = []
    for _ in range(steps):
        index = (residual @ sae.W_dec.T).relu().max(dim=1, keepdim=True).indices
        row = sae.W_dec[index.squeeze(1)]
        value = (residual * row).sum(-1, keepdim=True).relu() * going
        new = (value > 0) & ~support.gather(1, index)
        columns.append(torch.where(new, shortest, -math.inf))
        support.scatter_(1, index, support.gather(1, index) | new)
        residual = residual - value * row
        shortest = torch.minimum(shortest, residual.norm(dim=-1, keepdim=True))
        if sae.cfg.stop_on_duplicate_support:
            going &= new
    return torch.cat(columns, dim=1)


def stopping_rule(found: Picks, l0: float) -> tuple[int, float] | None:
    """Return the fewest iterations that reach `l0`, and the residual threshold that trims what is over.

    With few latents picked twice the iterations are `l0` itself and nothing is trimmed. None where even all
    iterations tried do not reach `l0`.
    """
    reached = (found > -math.inf).double().mean(0).cumsum(0)
    enough = (reached >= l0 - 1e-9).nonzero()
    if not len(enough):
        return None
    steps = int(enough[0]) + 1
    wanted = max(1, round(len(found) * l0))
    ordered = found[:, :steps].flatten().sort(descending=True).values
    ordered = ordered[ordered > -math.inf]
    if wanted >= len(ordered) or not math.isfinite(float(ordered[wanted - 1])):
        return steps, 0.0
    return steps, float(ordered[wanted - 1] + ordered[wanted]) / 2

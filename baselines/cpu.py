"""What this machine's CPU can do."""

from __future__ import annotations

import torch


def has_bfloat16_units() -> bool:
    """Whether bfloat16 products are computed by units of their own (AVX-512 BF16, AMX).

    Without them they are emulated, at a tenth of the speed of float32 ones (an AVX2 server: 10 and 95 GFLOP/s).
    """
    # The functions are torch's private ones; where they are gone, float32 is the safe answer.
    checks = (getattr(torch.cpu, name, bool) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    return any(check() for check in checks)

"""Profiles: how much a check measures. Every value can be overridden by file, environment or flag."""

from __future__ import annotations

from typing import Any

PROFILES: dict[str, dict[str, Any]] = {
    "smoke": {
        "tokens": 40_960,
        "d_sae": 512,
        "seeds": 2,
        "random_seeds": 5,
        "held_out_documents": 64,
        "ce_documents": 8,
        "calibration_tokens": 16_000,
        "probe_datasets": "smoke",
        "probe_conditions": "smoke",
        "probe_prompts": 260,
        "latents": 4,
        "detection_examples": 20,
        "editing_entities": 300,
        "editing_pairs": 128,
        "masks": 1,
    },
    "demo": {
        "tokens": 245_760,
        "d_sae": 1024,
        "seeds": 3,
        "random_seeds": 5,
        "held_out_documents": 160,
        "ce_documents": 32,
        "calibration_tokens": 32_000,
        "probe_datasets": "demo",
        "probe_conditions": "demo",
        "probe_prompts": 500,
        "latents": 40,
        "detection_examples": 40,
        "editing_entities": 500,
        "editing_pairs": 512,
        "masks": 2,
    },
    "release": {
        "tokens": 819_200,
        "d_sae": 4096,
        "seeds": 5,
        "random_seeds": 19,
        "held_out_documents": 500,
        "ce_documents": 100,
        "calibration_tokens": 64_000,
        "probe_datasets": "release",
        "probe_conditions": "release",
        "probe_prompts": 1500,
        "latents": 1000,
        "detection_examples": 100,
        "editing_entities": 1000,
        "editing_pairs": 4096,
        "masks": 3,
    },
}
"""`smoke`: does it run (2 minutes); `demo`: a verdict in minutes; `release`: the seeds METHOD 5 asks for."""

"""Worlds of which the truth is known, and what an SAE finds of it."""

from .ceilings import ceiling_rows, code_ev, expected_max_cosine, nothing_rows
from .loading import PUBLISHED, load_world
from .matching import best_cosines, match_one_to_one
from .memory import largest_that_fits, memory_bytes
from .sample import Sample
from .scores import rate_rows, world_rows
from .spec import KINDS, PAPER, SYNTHSAEBENCH, WorldSpec
from .world import World, make_world, stream

__all__ = [
    "KINDS",
    "PAPER",
    "PUBLISHED",
    "SYNTHSAEBENCH",
    "Sample",
    "World",
    "WorldSpec",
    "best_cosines",
    "ceiling_rows",
    "code_ev",
    "expected_max_cosine",
    "largest_that_fits",
    "load_world",
    "make_world",
    "match_one_to_one",
    "memory_bytes",
    "nothing_rows",
    "rate_rows",
    "stream",
    "world_rows",
]

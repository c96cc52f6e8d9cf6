"""From what a user typed as TARGET to the SAEs that it means."""

from .locate import locate
from .located import Located
from .registry import releases, saes

__all__ = ["Located", "locate", "releases", "saes"]

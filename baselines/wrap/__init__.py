"""Foreign SAEs made safe and understood: read, checked, wrapped and brought into one space."""

from .artefact import Artefact
from .errors import BadSAE, Unsupported
from .foreign import ForeignSAE
from .loading import load_folder
from .objects import wrap_object
from .raw_space import in_raw_space
from .reading import read_recipe, unsupported
from .recipe import RECIPE_FIELDS, Known, Recipe
from .shaping import shape_of

__all__ = [
    "RECIPE_FIELDS",
    "Artefact",
    "BadSAE",
    "ForeignSAE",
    "Known",
    "Recipe",
    "Unsupported",
    "in_raw_space",
    "load_folder",
    "read_recipe",
    "shape_of",
    "unsupported",
    "wrap_object",
]

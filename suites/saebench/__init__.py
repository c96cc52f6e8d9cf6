"""SAEBench's own evals run on SAEs that are at hand, with the traps of SAEBench 0.6 handled, one per module."""

from .contained import contained
from .evaluation import Evaluation, NotInstalledError, OptionError, make_config
from .job import Found, Job, transformer_lens_hook
from .language_model import LanguageModel, lent
from .registry import EVALS
from .unavailable import Unavailable

__all__ = [
    "EVALS",
    "Evaluation",
    "Found",
    "Job",
    "LanguageModel",
    "NotInstalledError",
    "OptionError",
    "Unavailable",
    "contained",
    "lent",
    "make_config",
    "transformer_lens_hook",
]

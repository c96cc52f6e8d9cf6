"""What a TARGET is: a release, a repo of the hub, a folder, or a factory."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from pathlib import Path

from ..errors import UsageError
from .factory import locate_factory
from .folder import locate_folder
from .hub import REPO, SCHEME, HubPath, locate_hub
from .located import Located
from .registry import locate_release, release_names

_FACTORY = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")


def locate(target: str, sae_ids: Sequence[str] = ()) -> tuple[Located, ...]:
    """Find the SAEs that a target means, and read their recipes; weights are neither loaded nor downloaded.

    What a target is, is asked in this order; the first that fits decides:

    1. `hf://org/repo[/path][@revision]`: a repo of the hub;
    2. `package.module:factory`: a function that returns an SAE or a dict of them. Only this form imports anything;
    3. a SAELens release id, such as `gpt2-small-res-jb`. A folder of the same name is meant by `./gpt2-small-res-jb`;
    4. a folder, in SAELens' format or with such folders in it. A folder wins over a repo of the same name, which is
       meant by `hf://org/repo`;
    5. `org/repo`: a repo of the hub.

    Args:
        target: As above.
        sae_ids: Names or globs of SAEs in it (`--sae-id`); needed where there are several.

    Returns:
        The chosen SAEs, in the order of the target. One that cannot be checked has a `skip`.

    Raises:
        UsageError: There is no such target, or it cannot be read; one line that says what would be right.
    """
    if target.startswith(SCHEME):
        return locate_hub(HubPath.parse(target), sae_ids)
    if _FACTORY.fullmatch(target):
        return locate_factory(target, sae_ids)
    if not _is_path(target) and target in release_names():
        return locate_release(target, sae_ids)
    folder = Path(target).expanduser()
    if target and folder.is_dir():  # the path "" would be the working folder
        return locate_folder(folder, target, sae_ids)
    if target and folder.exists():
        raise UsageError(
            f"target {target!r} is a file; name the folder that holds cfg.json and sae_weights.safetensors"
        )
    if REPO.fullmatch(target):
        return locate_hub(HubPath(target), sae_ids)
    raise _no_such_target(target)


def _is_path(target: str) -> bool:
    return "/" in target or target.startswith((".", "~"))


def _no_such_target(target: str) -> UsageError:
    if _is_path(target):
        return UsageError(f"no such folder: {target!r}; a repo of the hub is written org/repo or hf://org/repo/path")
    near = difflib.get_close_matches(target, release_names(), n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    right = "it must be a SAELens release (`sae-sanity list releases`), a folder, org/repo, hf://… or module:factory"
    return UsageError(f"no such target: {target!r}{hint} ({right})")

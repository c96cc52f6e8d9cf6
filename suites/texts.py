"""Sets of documents with a name and a content hash."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property


@dataclass(frozen=True)
class TextSet:
    """Documents that are read by the language model together, in this order."""

    name: str
    """What the set is for, such as `train` or `held_out`; not part of the hash."""
    documents: tuple[str, ...]
    """The texts; one document is one row of the model's input and one unit of the statistics."""

    @cached_property
    def sha256(self) -> str:
        """Hash of the documents and their order, as 64 hexadecimal digits."""
        digest = hashlib.sha256()
        for document in self.documents:
            raw = document.encode()
            # The length keeps ("ab", "c") and ("a", "bc") apart.
            digest.update(len(raw).to_bytes(8, "little"))
            digest.update(raw)
        return digest.hexdigest()

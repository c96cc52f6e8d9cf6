"""The variance components that `plan` starts from where nothing nearer is known, taken from finished runs of our own.

    python benchmarks/variance_components.py results/published/variance_components.json demo-full smoke-editing

Each folder is one of a finished `sae-sanity check`; a suite that several of them have is taken from the first.
"""

# The rooms are mapped to sae_sanity.* at install time, which pyright does not follow from outside the four folders.
# pyright: reportMissingImports=false

from __future__ import annotations

import argparse
from pathlib import Path

from sae_sanity.harness.power import variances_in
from sae_sanity.results.files import write_atomically
from sae_sanity.results.variance import SuiteVariance, Variances


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path, help="where to write them")
    parser.add_argument("folders", type=Path, nargs="+", help="results folders of finished checks")
    arguments = parser.parse_args()
    found: dict[str, SuiteVariance] = {}
    for folder in arguments.folders:
        found = variances_in(folder).suites | found
    write_atomically(arguments.file, Variances(suites=found).model_dump_json(indent=1).encode() + b"\n")
    for name, suite in found.items():
        print(f"{name} ({suite.source}; {suite.note or 'no caveat'})")
        for arm, parts in suite.arms.items():
            sds = {key: value for key, value in parts.model_dump().items() if "_sd" in key and value is not None}
            print(f"  {arm}: " + ", ".join(f"{key} {value:.4f}" for key, value in sds.items()))


if __name__ == "__main__":
    main()

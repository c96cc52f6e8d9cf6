"""Hostile SAEs at the command line: one line, exit code 2, nothing written, nothing executed."""

from __future__ import annotations

import json
import os
import pickle
import struct
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_saes import make_sae

from sae_sanity.harness.cli import main

WEIGHTS = "sae_weights.safetensors"


def rewrite(folder: Path, **changes: torch.Tensor | None) -> None:
    tensors = load_file(folder / WEIGHTS) | changes
    save_file({name: tensor for name, tensor in tensors.items() if tensor is not None}, folder / WEIGHTS)


def edit(folder: Path, **changes: object) -> None:
    cfg = json.loads((folder / "cfg.json").read_text())
    (folder / "cfg.json").write_text(json.dumps(cfg | changes))


def nan(folder: Path) -> None:
    weights = load_file(folder / WEIGHTS)["W_dec"]
    weights[0, 0] = float("nan")
    rewrite(folder, W_dec=weights)


class Marker:
    """Would make a file if it were unpickled."""

    def __reduce__(self):
        return (os.mkdir, ("executed",))


def header_bomb(folder: Path) -> None:
    (folder / WEIGHTS).write_bytes(struct.pack("<Q", 2**62) + b"{}")


def a_pickle(folder: Path) -> None:
    (folder / WEIGHTS).write_bytes(pickle.dumps(Marker()))


def a_torch_file(folder: Path) -> None:
    torch.save({"W_dec": Marker()}, folder / WEIGHTS)


def leads_out(folder: Path) -> None:
    secret = folder.parent / "secret"
    (folder / WEIGHTS).rename(secret)
    (folder / WEIGHTS).symlink_to(secret)


HOSTILE = {
    "nan": (nan, "NaN or Inf"),
    "wrong shape": (lambda f: rewrite(f, W_enc=torch.zeros(3, 3)), "has shape [3, 3]"),
    "missing tensor": (lambda f: rewrite(f, b_dec=None), "no tensor 'b_dec'"),
    "unexpected tensor": (lambda f: rewrite(f, evil=torch.zeros(3)), "unexpected tensor"),
    "pickle": (a_pickle, "pickle"),
    "torch file": (a_torch_file, "zip"),
    "header bomb": (header_bomb, "header"),
    "unknown architecture": (lambda f: edit(f, architecture="topkk"), "did you mean 'topk'"),
    "absurd size": (lambda f: edit(f, d_sae=10**15), "d_sae"),
    "negative size": (lambda f: edit(f, d_in=-1), "d_in"),
    "no object": (lambda f: (f / "cfg.json").write_text("[]"), "cfg.json"),
    "deep nesting": (lambda f: (f / "cfg.json").write_text("[" * 100_000), "cfg.json"),
    "truncated": (lambda f: (f / WEIGHTS).write_bytes((f / WEIGHTS).read_bytes()[:-7]), WEIGHTS),
    "out of the folder": (leads_out, "a link out of the folder"),
    "no weights": (lambda f: (f / WEIGHTS).unlink(), WEIGHTS),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_it_is_refused_in_one_line(name, tmp_path, capsys):
    harm, message = HOSTILE[name]
    folder = tmp_path / "sae"
    make_sae("topk").save_model(folder)
    harm(folder)
    before = sorted(str(path) for path in tmp_path.rglob("*"))
    assert main(["check", str(folder), "--model", "SmolLM2-135M-Instruct", "--profile", "smoke"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    assert message in err
    assert sorted(str(path) for path in tmp_path.rglob("*")) == before


@pytest.mark.parametrize("target", ["marker_module:make", "./marker_module:make"])
def test_a_factory_is_imported_only_when_the_user_typed_it(target, tmp_path, capsys):
    (tmp_path / "marker_module.py").write_text("open('executed', 'w').close()\ndef make():\n    return object()\n")
    make_sae("topk", metadata={"model_name": "marker_module:make"}).save_model(tmp_path / "sae")
    assert main(["plan", str(tmp_path / "sae"), "--model", "marker_module:make"]) in (0, 2)
    assert main(["check", str(tmp_path / "sae"), "--profile", "smoke"]) == 2
    assert not (tmp_path / "executed").exists()
    assert main(["plan", target]) == 2
    assert (tmp_path / "executed").exists() == (target == "marker_module:make")
    sys.modules.pop("marker_module", None)
    assert all(len(line) < 400 for line in capsys.readouterr().err.splitlines())

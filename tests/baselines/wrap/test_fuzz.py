"""Real SAE folders, mutated thousands of times: each loads and gives finite numbers or is refused in one line.

Never another exception, never a hang, never a run of what a pickle holds.
"""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import random
import shutil
import time
from collections import Counter
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from tiny_saes import TRAINING, activations, make_sae, make_training_sae, save

from sae_sanity.baselines.wrap import BadSAE, in_raw_space, load_folder, read_recipe, shape_of, unsupported

CASES = 2_400
SECONDS_PER_CASE = 5.0
WEIGHTS = "sae_weights.safetensors"
OLD = {
    "architecture": "standard",
    "d_in": 8,
    "d_sae": 20,
    "dtype": "float32",
    "hook_name": "blocks.0.hook_resid_pre",
    "activation_fn": "relu",
    "activation_fn_kwargs": {"k": 3},
    "lr": 1e-3,
    "training_tokens": 1000,
    "normalize_activations": None,
}
NUMBERS = [0, -1, 1, 2, 7, 8, 20, 21, 2**31, 2**62, 2**63 - 1, 0.5, -0.0, 1e300, 5e-324]
TEXTS = ["", "topk", "jumprelu", "gated", "none", "layer_norm", "hook_z", "nan", "6.0.0", "5.9", "../../etc/passwd"]
ODD_TEXTS = ["a\x00b", "a\nb", "\x1b[2J", "é" * 700]
NESTED = [[], [1, [2, [3]]], {}, {"k": 3}, {"k": None}, {"sae_lens_version": "5.0.0"}, {"": {"": ""}}]
HOSTILE = [None, True, False, *NUMBERS, *TEXTS, *ODD_TEXTS, *NESTED, {"training_architecture": "batchtopk"}]


class Payload:
    """A pickle that makes a marker file if anybody reads it."""

    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self):
        return (os.mkdir, (str(self.marker),))


def flip_bytes(folder, rng, marker):
    path = folder / rng.choice(["cfg.json", WEIGHTS])
    data = bytearray(path.read_bytes())
    end = len(data) if rng.random() < 0.5 else min(len(data), 600)
    for _ in range(rng.choice([1, 1, 2, 8, 64])):
        data[rng.randrange(end)] = rng.randrange(256)
    path.write_bytes(data)


def cut_or_grow(folder, rng, marker):
    path = folder / rng.choice(["cfg.json", WEIGHTS])
    data = path.read_bytes()
    at = rng.randrange(len(data) + 1)
    piece = rng.randbytes(rng.randrange(1, 40))
    path.write_bytes(rng.choice([data[:at], data + piece, data[:at] + piece + data[at:], piece + data, b""]))


def edit_header(folder, rng, marker):
    data = (folder / WEIGHTS).read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    name = rng.choice(sorted(header))
    kind = rng.randrange(6)
    if kind == 0:
        header[rng.choice(["W_dec", "x", "__metadata__", "b_enc"])] = header.pop(name)
    elif kind == 1:
        header[name] = rng.choice(HOSTILE)
    elif kind == 2 and isinstance(header[name], dict):
        header[name][rng.choice(["dtype", "shape", "data_offsets", "more"])] = rng.choice(
            [*HOSTILE, "F16", "F64", "BF16", "I8", [20, 8], [8, 20], [0, 0], [0, 2**63 - 1], [2**62, 2**62], [-1, 3]]
        )
    elif kind == 3:
        header |= {f"t{i}": header[name] for i in range(rng.choice([1, 3, 500]))}
    elif kind == 4:
        length = rng.choice([0, 1, length - 1, length + 1, 2**20, 2**31, 2**63, 2**64 - 1])
        (folder / WEIGHTS).write_bytes(length.to_bytes(8, "little") + data[8:])
        return
    else:
        del header[name]
    text = json.dumps(header).encode() + b" " * rng.choice([0, 0, 5])
    (folder / WEIGHTS).write_bytes(len(text).to_bytes(8, "little") + text + data[8 + length :])


def edit_cfg(folder, rng, marker):
    path = folder / rng.choice(["cfg.json", "cfg.json", "runner_cfg.json"])
    cfg = json.loads((folder / "cfg.json").read_text())
    for _ in range(rng.choice([1, 1, 2, 5])):
        metadata = cfg.get("metadata") or {}
        details = metadata.get("training_architecture_details") if isinstance(metadata, dict) else None
        inside = rng.choice([cfg, cfg, metadata, details])
        if isinstance(inside, dict):
            names = [
                *sorted(inside),
                "k",
                "sae_lens_version",
                "architecture",
                "max_iterations",
                "residual_threshold",
                "self",
                "to_dict",
            ]
            inside[rng.choice(names)] = rng.choice(HOSTILE)
    text = json.dumps(cfg)
    if rng.random() < 0.2:
        text = text.replace(
            rng.choice(["8", "20", "true", '"', "{", "}"]), rng.choice(["NaN", "1e999", "9" * 400, "[", "-Infinity"]), 1
        )
    path.write_text(text)


def old_cfg(folder, rng, marker):
    cfg = dict(OLD)
    for _ in range(rng.randrange(4)):
        cfg[rng.choice([*sorted(cfg), "metadata", "finetuning_scaling_factor", "hook_point", "activation_fn_str"])] = (
            rng.choice(HOSTILE)
        )
    (folder / "cfg.json").write_text(json.dumps(cfg))


def edit_tensors(folder, rng, marker):
    tensors = load_file(folder / WEIGHTS)
    name = rng.choice(sorted(tensors))
    tensor, kind = tensors[name], rng.randrange(8)
    if kind == 0:
        tensors[rng.choice(["W_dec", "scaling_factor", "log_threshold", "../x", "é\n"])] = tensors.pop(name)
    elif kind == 1:
        tensors[name] = tensor.T.contiguous() if rng.random() < 0.5 else tensor.reshape(-1)
    elif kind == 2:
        tensors[name] = torch.empty(rng.choice([(0,), (1,), (20, 0), (2, 2, 2), ()]))
    elif kind in (3, 4):
        bad = [float("nan"), float("inf"), -float("inf"), 3.4e38, -3e38, 1e30, 0.0, -1.0]
        tensor.view(-1)[rng.randrange(tensor.numel())] = rng.choice(bad)
    elif kind == 5:
        tensors[name] = torch.full_like(tensor, rng.choice([0.0, 1.0, 1e20, 3.4e38, -200.0, 200.0]))
    elif kind == 6:
        tensors[name] = tensor.to(rng.choice([torch.float16, torch.bfloat16, torch.float64, torch.int32, torch.bool]))
    else:
        tensors["scaling_factor"] = torch.full((20,), rng.choice([1.0, 2.0, float("nan")]))
    save_file(tensors, folder / WEIGHTS)


def swap_files(folder, rng, marker):
    name = rng.choice(["cfg.json", WEIGHTS])
    kind = rng.randrange(7)
    path, other = folder / name, folder / rng.choice(["cfg.json", WEIGHTS])
    if kind == 0:
        path.write_bytes(other.read_bytes())
    elif kind == 1:
        path.unlink()
        path.symlink_to(
            rng.choice(["/etc/passwd", "/dev/zero", "cfg.json", "../..", "/proc/self/mem", str(other), "nothing"])
        )
    elif kind == 2:
        path.unlink()
        os.mkfifo(path)
    elif kind == 3:
        path.unlink()
        path.mkdir()
    elif kind == 4:
        path.rename(folder / rng.choice(["ae.pt", "x.bin", "params.npz"]))
    elif kind == 5:
        os.truncate(path, rng.choice([2**33, 2**40]))
    else:
        path.unlink()


def plant_pickle(folder, rng, marker):
    payload = Payload(marker)
    name = rng.choice([WEIGHTS, "cfg.json", "runner_cfg.json", "sparsity.safetensors", "ae.pt"])
    if rng.random() < 0.5:
        torch.save(payload, folder / name)
    else:
        (folder / name).write_bytes(pickle.dumps(payload, protocol=rng.randrange(6)))
    if name == "ae.pt":
        (folder / WEIGHTS).unlink()


CONTENT = [flip_bytes, cut_or_grow, edit_header, edit_cfg, old_cfg, edit_tensors]
FILES = [swap_files, plant_pickle]


def mutate(folder, rng, marker) -> list[str]:
    """One or two changes of contents, or one and another file in place of one; returns their names."""
    chosen = rng.choices(CONTENT, [4, 3, 4, 5, 2, 5], k=rng.choice([1, 1, 1, 2]))
    if rng.random() < 0.2:
        # Last, and only one: the mutations themselves must not read a pipe or a terabyte.
        chosen = [*chosen[: rng.randrange(2)], rng.choice(FILES)]
    for change in chosen:
        # What the first change broke, the second may be unable to read.
        with contextlib.suppress(OSError, ValueError, KeyError, RuntimeError, TypeError, IndexError, SafetensorError):
            change(folder, rng, marker)
    return [change.__name__ for change in chosen]


def seeds(base: Path) -> list[Path]:
    folders = [save(make_training_sae(a), base / a) for a in TRAINING]
    folders += [save(make_sae(a, normalize_activations="layer_norm"), base / f"ln-{a}") for a in ("standard", "topk")]
    folders.append(save(make_sae("topk", rescale_acts_by_decoder_norm=True), base / "rescaled"))
    folders.append(save(make_sae("gated", normalize_activations="expected_average_only_in"), base / "scaled"))
    return folders


def is_one_line(error: Exception) -> bool:
    return "\n" not in str(error) and str(error).isprintable() and len(str(error)) <= 500


def outcome(folder: Path, x: torch.Tensor) -> str:
    """What became of a folder; any exception but BadSAE is a failure of the test."""
    try:
        recipe = read_recipe(folder)
        if unsupported(recipe):
            return "skipped"
        artefact = in_raw_space(load_folder(folder, name="x", recipe=recipe), 0.5)
    except BadSAE as error:
        return "refused" if is_one_line(error) else f"refused in more than one line: {error}"
    acts = artefact.sae.encode(x)
    finite = acts.isfinite().all() and artefact.sae.decode(acts).isfinite().all()
    json.dumps({name: known.value for name, known in artefact.recipe.values.items()}).encode()
    try:
        shape_of(artefact.recipe, l0=4.0)
    except ValueError as error:
        finite = finite and is_one_line(error)
    return "loads" if finite else "loads and gives NaN"


@pytest.mark.filterwarnings("ignore")
def test_mutated_folders(tmp_path):
    rng, x = random.Random(20261121), activations(8)  # noqa: S311
    marker, folder, originals = tmp_path / "marker", tmp_path / "case", seeds(tmp_path / "seeds")
    assert all(outcome(original, x) == "loads" for original in originals)
    seen = Counter()
    for case in range(CASES):
        shutil.copytree(rng.choice(originals), folder)
        names = mutate(folder, rng, marker)
        started = time.monotonic()
        try:
            result = outcome(folder, x)
        except Exception as error:
            error.add_note(f"case {case}: {names}")
            raise
        assert time.monotonic() - started < SECONDS_PER_CASE, (case, names)
        assert not marker.exists(), (case, names)
        assert result in ("loads", "refused", "skipped"), (case, names, result)
        seen[result] += 1
        shutil.rmtree(folder)
    # A fuzz test in which everything is refused at the first check, or nothing is, tests nothing.
    assert seen["refused"] > CASES / 4
    assert seen["loads"] > CASES / 8

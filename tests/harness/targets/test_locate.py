from __future__ import annotations

import sys

import pytest
import torch
from hub_contents import D_IN, RES_JB, make_sae, save_old_sae, save_sae

from sae_sanity.baselines.wrap import unsupported
from sae_sanity.harness.errors import UsageError
from sae_sanity.harness.targets import locate

X = torch.randn(20, D_IN, generator=torch.Generator().manual_seed(3))


def refusal(target, *sae_ids):
    """The one line of an error."""
    with pytest.raises(UsageError) as error:
        locate(target, sae_ids)
    text = str(error.value)
    assert "\n" not in text
    assert len(text) < 400
    return text


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Write a module into the working folder, which no test has imported before."""

    def write(text, name="user_saes"):
        (tmp_path / f"{name}.py").write_text("from hub_contents import make_sae\n" + text)
        monkeypatch.delitem(sys.modules, name, raising=False)

    return write


# folders


def test_a_folder_with_an_sae(tmp_path):
    save_sae(tmp_path / "mine", 3)
    (found,) = locate("mine")
    assert (found.name, found.kind, found.skip) == ("", "folder", "")
    assert found.load().name == "mine"
    assert torch.equal(found.load().sae.encode(X), make_sae(3).encode(X))
    assert locate(str(tmp_path / "mine"))[0].load().sha256 == found.load().sha256
    assert locate("./mine")[0].load().sha256 == found.load().sha256


def test_a_folder_of_folders(tmp_path):
    for name in ("b/x", "a/x", "a/y", ".hidden/x"):
        save_sae(tmp_path / "saes" / name)
    (tmp_path / "saes/link").symlink_to(tmp_path / "saes/a")
    assert [found.name for found in locate("saes", ["*"])] == ["a/x", "a/y", "b/x"]
    assert [found.name for found in locate("saes", ["b/*", "a/x"])] == ["a/x", "b/x"]
    assert locate("saes", ["a/y"])[0].load().name == "a/y"
    assert refusal("saes") == "saes has 3 SAEs; choose with --sae-id, for example 'a/x', 'a/y', 'b/x'"
    assert "did you mean 'a/x'" in refusal("saes", "a/xx")
    assert "matches --sae-id 'c*'" in refusal("saes", "a/*", "c*")


def test_a_folder_of_one_needs_no_choice(tmp_path):
    save_sae(tmp_path / "saes/only")
    assert [found.name for found in locate("saes")] == ["only"]


def test_an_sae_with_others_below_it(tmp_path):
    save_sae(tmp_path / "saes", 1)
    save_sae(tmp_path / "saes/checkpoint", 2)
    assert torch.equal(locate("saes")[0].load().sae.W_dec, make_sae(1).W_dec)
    assert [found.name for found in locate("saes", ["*"])] == [".", "checkpoint"]
    assert torch.equal(locate("saes", ["."])[0].load().sae.W_dec, make_sae(1).W_dec)


def test_names_that_would_write_into_a_report_are_passed_over(tmp_path, hub):
    for root in (tmp_path / "saes", hub.repo("org/odd")):
        save_sae(root / "good")
        save_sae(root / "two\nlines")
        save_sae(root / "\x1b[31mred")
    assert [found.name for found in locate("saes")] == ["good"]
    assert [found.name for found in locate("hf://org/odd")] == ["good"]


def test_only_chosen_saes_are_read(tmp_path):
    save_sae(tmp_path / "saes/good")
    save_sae(tmp_path / "saes/bad")
    (tmp_path / "saes/bad/cfg.json").write_text("{")
    assert [found.name for found in locate("saes", ["good"])] == ["good"]
    assert "cfg.json" in refusal("saes", "bad")
    # of several, one that is refused does not stop the others
    bad, good = locate("saes", ["*"])
    assert (good.skip, bad.name) == ("", "bad")
    assert "cfg.json" in bad.skip


def test_ids_with_brackets_are_meant_as_they_are(tmp_path):
    save_sae(tmp_path / "saes/l[0]")
    save_sae(tmp_path / "saes/l0")
    assert [found.name for found in locate("saes", ["l[0]"])] == ["l[0]"]
    assert [found.name for found in locate("saes", ["l[01]"])] == ["l0"]


def test_an_sae_that_cannot_be_checked_is_skipped(tmp_path):
    save_sae(tmp_path / "head", hook_head_index=3)
    (found,) = locate("head")
    assert "hook_head_index 3" in found.skip
    assert found.skip == unsupported(found.recipe)


def test_a_refused_folder_is_an_error_of_usage_when_it_is_loaded(tmp_path):
    save_sae(tmp_path / "mine")
    (found,) = locate("mine")
    (tmp_path / "mine/sae_weights.safetensors").write_bytes(b"")
    with pytest.raises(UsageError, match="sae_weights"):
        found.load()


# what a target is


def test_a_folder_wins_over_a_repo_and_a_release_over_a_folder(tmp_path, hub):
    save_sae(tmp_path / "org/saes", 5)
    assert locate("org/saes")[0].kind == "folder"
    assert locate("hf://org/saes", ["layer_0*"])[0].kind == "hub"
    save_old_sae(tmp_path / RES_JB)
    assert locate(RES_JB, ["blocks.0.*"])[0].kind == "release"
    assert locate(f"./{RES_JB}")[0].kind == "folder"


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("gpt2-small-res-jp", "no such target: 'gpt2-small-res-jp'; did you mean 'gpt2-small-res-jb'?"),
        ("zzzz", "(it must be a SAELens release"),
        ("", "no such target: ''"),
        ("./nowhere", "no such folder: './nowhere'"),
        ("a/b/c", "no such folder: 'a/b/c'; a repo of the hub is written org/repo"),
        ("/", "no SAE in /"),
        ("file", "target 'file' is a file; name the folder that holds cfg.json"),
        ("empty", "no SAE in empty: neither it nor a folder below holds cfg.json"),
        ("a:b:c", "no such target"),
        ("package.module:", "no such target"),
        ("https://huggingface.co/org/repo", "no such folder"),
        ("a\nb", "no such target: 'a\\nb'"),
    ],
)
def test_what_is_no_target(tmp_path, target, message, monkeypatch):
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    if target == "/":
        monkeypatch.setattr("os.walk", lambda _: iter(()))
    assert message in refusal(target)


def test_only_a_factory_is_imported(tmp_path, module):
    module("raise AssertionError('imported')", "innocent")
    for target in ("innocent", "innocent.py", "./innocent", "hf://innocent:make", "x/innocent:make"):
        refusal(target)
    assert "innocent" not in sys.modules


# factories


def test_a_factory_of_one_sae(module):
    module("def make():\n    return make_sae(4)")
    (found,) = locate("user_saes:make")
    assert (found.name, found.kind) == ("", "object")
    assert found.load().name == "make"
    assert torch.equal(found.load().sae.encode(X), make_sae(4).encode(X))
    assert found.recipe.get("hook_name") == "blocks.1.hook_resid_pre"


def test_one_sae_leaves_no_choice(module):
    module("def make():\n    return make_sae(4)")
    assert "returned one SAE; --sae-id 'a' needs a dict" in refusal("user_saes:make", "a")


def test_a_factory_of_several(module):
    module("class Makers:\n    @staticmethod\n    def make():\n        return {'b': make_sae(1), 'a': make_sae(2)}")
    assert [found.name for found in locate("user_saes:Makers.make", ["*"])] == ["b", "a"]
    assert torch.equal(locate("user_saes:Makers.make", ["a"])[0].load().sae.W_dec, make_sae(2).W_dec)
    assert "has 2 SAEs; choose with --sae-id" in refusal("user_saes:Makers.make")


def test_the_same_sae_as_object_and_folder(module, tmp_path):
    module("def make():\n    return make_sae(4)")
    save_sae(tmp_path / "mine", 4)
    assert locate("user_saes:make")[0].load().sha256 == locate("mine")[0].load().sha256


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def make(:", "cannot import 'user_saes' of target user_saes:make: SyntaxError"),
        ("raise SystemExit('bye\\nbye')", "cannot import 'user_saes' of target user_saes:make: SystemExit: bye"),
        ("import not_installed", "ModuleNotFoundError: No module named 'not_installed'"),
        ("", "target user_saes:make: user_saes has no 'make'"),
        ("make = 3", "is a int; it must be a function without arguments"),
        ("def make(x): pass", "factory user_saes:make failed: TypeError"),
        ("def make(): 1 / 0", "factory user_saes:make failed: ZeroDivisionError: division by zero"),
        ("def make(): pass", "NoneType"),
        ("def make(): return {}", "returned a dict of 0; it must map names to SAEs"),
        ("def make(): return {3: make_sae()}", "it must map names to SAEs"),
        ("def make(): return [make_sae()]", "a list without cfg"),
    ],
)
def test_a_factory_that_fails(module, text, message):
    module(text)
    path = list(sys.path)
    assert message in refusal("user_saes:make")
    assert sys.path == path


def test_a_module_that_is_not_there():
    assert "No module named 'nowhere'" in refusal("nowhere.at.all:make")

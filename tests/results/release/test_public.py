"""What may be said of where an SAE was checked."""

from __future__ import annotations

import pytest

from sae_sanity.results.release.public import NAMELESS, is_folder, public, public_name

FOLDERS = {
    "/home/me/layer-3": "layer-3",
    "/home/me/layer-3/": "layer-3",
    "./layer-3": "layer-3",
    "../../layer-3": "layer-3",
    "~/saes/layer-3": "layer-3",
    "~me/layer-3": "layer-3",
    "runs/today/layer-3": "layer-3",
    "my saes/layer 3": "layer 3",
    "C:\\\\saes\\\\layer-3": "layer-3",
    ".": NAMELESS,
    "./": NAMELESS,
    "..": NAMELESS,
    "../..": NAMELESS,
    "~": NAMELESS,
    "/": NAMELESS,
}
OTHERS = ("demo", "gpt2-small-res-jb", "org/repo", "hf://org/repo/deep/path@v1", "package.module:factory", "layer-3")


@pytest.mark.parametrize(("target", "name"), FOLDERS.items())
def test_folders_have_their_last_name(target, name):
    assert is_folder(target)
    assert public_name(target) == name
    assert not is_folder(public_name(target))


@pytest.mark.parametrize("target", OTHERS)
def test_what_others_can_find_stays(target):
    assert not is_folder(target)
    assert public_name(target) == target


def test_a_folder_that_reads_like_a_repo_has_to_be_said():
    assert public_name("runs/layer-3", local=True) == "layer-3"


def test_a_sentence_loses_the_path_and_no_more(make):
    found = make.report(target="./a", headline="./a beats ../a.b and ./abc, says './a' (./a/b).")
    assert public(found).headline == "a beats ../a.b and ./abc, says 'a' (a/b)."


@pytest.mark.parametrize("target", [".", "~", "/"])
def test_a_path_of_one_sign_does_not_eat_the_sentence(make, target):
    found = make.report(target=target, headline=f"{target} beats random by ~ 0.5. 3/4 of it. So.")
    said = public(found).headline
    assert said.startswith(f"{NAMELESS} beats random by ")
    assert said.endswith(" 0.5. 3/4 of it. So.")


def test_a_report_without_folders_stays_but_for_the_results_folder(make):
    found = make.report()
    manifest = found.manifest.model_copy(update={"command": "sae-sanity check demo --profile demo"})
    assert public(found) == found.model_copy(update={"manifest": manifest})
    assert public(public(found)) == public(found)

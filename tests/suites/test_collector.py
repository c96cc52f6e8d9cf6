from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny_site import tiny_model, tiny_site, tiny_texts

from sae_sanity.suites import collector
from sae_sanity.suites.activations import ActivationSet, CorruptActivationsError
from sae_sanity.suites.collector import Collector, write_atomically
from sae_sanity.suites.shelf import size_of
from sae_sanity.suites.texts import TextSet


@pytest.fixture
def texts():
    return tiny_texts("train", 30, 1)


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    """Seven documents of 32 tokens of width 16 in a shard."""
    monkeypatch.setattr(collector, "SHARD_BYTES", 7 * 32 * 16 * 2)


def forward_passes(site):
    """A list that grows by one with every forward pass of the site's model."""
    passes = []
    site.model.model.embed_tokens.register_forward_hook(lambda *_: passes.append(1))
    return passes


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def all_rows(collected):
    return torch.cat([acts for acts, _, _ in collected.chunks()])


# what is kept


def test_counts_add_up(make_site, texts):
    site = make_site()
    collected = site.collect(texts)
    assert collected.counts["dropped_bos"] == collected.n_documents == 30
    assert sum(collected.counts.values()) == sum(map(len, site.tokenise(texts.documents)))
    assert len(collected.shards) == 5


def test_position_0_is_dropped_without_bos_too(make_site, texts):
    collected = make_site(bos_token_id=None).collect(texts)
    assert collected.counts["dropped_bos"] == 30
    assert min(int(position.min()) for _, _, position in collected.chunks()) == 1


def test_the_norm_cap_is_ten_times_the_median_of_the_first_shard(make_site, texts):
    site = make_site()
    collected = site.collect(texts)
    acts = [site.activations(torch.tensor([row]))[0, 1:] for row in site.tokenise(texts.documents[:7])]
    assert collected.norm_cap == pytest.approx(10 * float(torch.cat(acts).norm(dim=1).median()), rel=1e-5)


def test_massive_activations_are_dropped_and_counted(make_site):
    model = tiny_model()
    model.model.embed_tokens.weight.data[2] *= 1e4  # w0
    texts = TextSet("train", ("w3 w0 w4 w5", "w6 w7 w0 w8", "w9 w10 w11 w12"))
    collected = make_site(model, "blocks.0.hook_resid_pre").collect(texts)
    assert collected.counts == {"kept": 10, "dropped_bos": 3, "dropped_outlier": 2}
    assert collected.kept_mask([0, 1, 2], 5).int().tolist() == [[0, 1, 0, 1, 1], [0, 1, 1, 0, 1], [0, 1, 1, 1, 1]]
    assert all_rows(collected).norm(dim=1).max() <= collected.norm_cap


def test_the_cap_of_one_set_is_passed_on_to_another(make_site, texts):
    site = make_site()
    free = site.collect(texts)
    norms = all_rows(free).norm(dim=1)
    cap = float(norms.median())
    capped = site.collect(texts, norm_cap=cap)
    assert capped.norm_cap == cap
    assert capped.key != free.key
    assert capped.counts["dropped_outlier"] == pytest.approx(free.n_tokens / 2, abs=5)
    assert capped.n_tokens + capped.counts["dropped_outlier"] == free.n_tokens


def test_what_is_not_a_number_is_dropped(make_site):
    model = tiny_model()
    model.model.embed_tokens.weight.data[2] = float("nan")
    texts = TextSet("train", ("w3 w4 w0", "w6 w7 w8", "w9 w10 w11 w12"))
    collected = make_site(model, "blocks.0.hook_resid_pre").collect(texts)
    assert collected.counts["dropped_outlier"] == 1
    assert all_rows(collected).isfinite().all()


def test_a_site_that_is_not_a_number_is_an_error(make_site, texts):
    model = tiny_model()
    model.model.embed_tokens.weight.data[:] = float("nan")
    with pytest.raises(ValueError, match="are not finite numbers"):
        make_site(model).collect(texts)


def test_documents_without_a_second_token_have_no_rows(make_site):
    collected = make_site().collect(TextSet("train", ("", "w1 w2", "", "w3")))
    assert collected.n_documents == 4
    assert [document.tolist() for _, document, _ in collected.chunks()] == [[1, 1, 3]]
    assert [batch.lengths for batch in collected.splice_batches(4)] == [[1, 3, 1, 2]]


def test_documents_without_any_token(make_site):
    collected = make_site(bos_token_id=None).collect(TextSet("train", ("w1 w2", "", "w3")))
    assert collected.counts == {"kept": 1, "dropped_bos": 2, "dropped_outlier": 0}


@pytest.mark.parametrize("documents", [("",), ("", "w1")])
def test_texts_that_are_too_short_for_a_cap(make_site, documents):
    with pytest.raises(ValueError, match="no text has a second token"):
        make_site(bos_token_id=None).collect(TextSet("train", documents))


def test_no_texts(make_site):
    with pytest.raises(ValueError, match="the text set 'none' is empty"):
        make_site().collect(TextSet("none", ()))


# the key


def test_a_second_call_computes_nothing(make_site, texts):
    first = make_site().collect(texts)
    site = make_site()
    _ = site.d_in
    passes = forward_passes(site)
    second = site.collect(TextSet("another name", texts.documents))
    assert not passes
    assert second.key == first.key
    assert torch.equal(all_rows(first), all_rows(second))


def test_everything_that_decides_the_set_is_in_its_key(make_site, texts, monkeypatch):
    def key(site, texts=texts, norm_cap=None):
        return Collector(site, texts, norm_cap).key

    keys = [
        key(make_site()),
        key(make_site(hook_name="blocks.0.hook_resid_post")),
        key(make_site(), tiny_texts("train", 30, 2)),
        key(make_site(), norm_cap=1.0),
        key(make_site(), norm_cap=1.0000001),
        key(make_site(precision="float32")),
    ]
    monkeypatch.setattr(collector, "CODE_VERSION", 999)
    keys.append(key(make_site()))
    assert len(set(keys)) == len(keys)


# resuming


class Killed(BaseException):
    pass


def test_progress_is_in_documents(make_site, texts):
    calls = []
    make_site().collect(texts, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(7, 30), (14, 30), (21, 30), (28, 30), (30, 30)]


def test_an_interrupted_run_goes_on_where_it_was(make_site, texts, tmp_path):
    def kill(done, total):
        if done == 14:
            raise Killed

    whole = make_site(cache=tmp_path / "whole").collect(texts)
    site = make_site(cache=tmp_path / "cut")
    _ = site.d_in
    passes = forward_passes(site)
    with pytest.raises(Killed):
        site.collect(texts, progress=kill)
    assert len(passes) == 4  # two shards of two batches
    resumed = site.collect(texts)
    assert len(passes) == 4 + 5
    assert files(resumed.folder) == files(whole.folder)


@pytest.mark.parametrize("step", ["shard-00001.safetensors", "shard-00001.json", "manifest.json"])
def test_a_run_that_is_killed_while_it_writes(make_site, texts, tmp_path, monkeypatch, step):
    def killed_at(path, data):
        if path.name == step:
            path.with_name(f".{path.name}.1.tmp").write_bytes(data[:10])
            raise Killed
        write_atomically(path, data)

    whole = make_site(cache=tmp_path / "whole").collect(texts)
    site = make_site(cache=tmp_path / "cut")
    monkeypatch.setattr(collector, "write_atomically", killed_at)
    with pytest.raises(Killed):
        site.collect(texts)
    monkeypatch.undo()
    monkeypatch.setattr(collector, "SHARD_BYTES", 7 * 32 * 16 * 2)
    found = files(site.collect(texts).folder)
    assert {name: data for name, data in found.items() if not name.endswith(".tmp")} == files(whole.folder)


@pytest.mark.parametrize("name", ["shard-00001.safetensors", "shard-00001.json"])
@pytest.mark.parametrize("damage", ["flip", "cut", "delete", "empty"])
def test_a_corrupt_shard_is_computed_again(make_site, texts, name, damage):
    site = make_site()
    folder = site.collect(texts).folder
    whole = files(folder)
    raw = bytearray(whole[name])
    raw[len(raw) // 2] ^= 0x10
    (folder / name).write_bytes({"flip": bytes(raw), "cut": whole[name][:-9], "empty": b"", "delete": b""}[damage])
    if damage == "delete":
        (folder / name).unlink()
    passes = forward_passes(site)
    again = site.collect(texts)
    assert files(again.folder) == whole
    assert len(passes) == 2


def test_a_corrupt_first_shard_has_the_same_cap_again(make_site, texts):
    site = make_site()
    before = site.collect(texts)
    before.shards[0].path(before.folder).unlink()
    assert site.collect(texts).norm_cap == before.norm_cap


KILLED = """
import os, signal, sys
sys.path.insert(0, {support!r})
from pathlib import Path
from tiny_site import tiny_site, tiny_texts
from sae_sanity.suites import collector
collector.SHARD_BYTES = 7 * 32 * 16 * 2

def die(done, total):
    if done == 14:
        os.kill(os.getpid(), signal.SIGKILL)

tiny_site(Path({cache!r})).collect(tiny_texts("train", 30, 1), progress=die)
"""


def test_a_process_that_is_killed_leaves_what_it_had_finished_to_the_next(texts, tmp_path):
    support = str(Path(tiny_site.__code__.co_filename).parent)
    code = KILLED.format(support=support, cache=str(tmp_path / "cut"))
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -signal.SIGKILL
    site = tiny_site(tmp_path / "cut")
    _ = site.d_in
    passes = forward_passes(site)
    found = site.collect(texts)
    assert len(passes) == 3  # of five shards, with a batch each
    assert files(found.folder) == files(tiny_site(tmp_path / "whole").collect(texts).folder)


def test_what_a_set_takes_is_known_before_it_is_made(make_site, texts):
    collector_ = Collector(make_site(), texts, None)
    need = collector_.n_bytes()
    taken = size_of(collector_.run().folder)
    assert taken <= need <= 1.2 * taken


def test_a_cache_with_a_limit_drops_what_was_used_longest_ago(make_site, texts, monkeypatch):
    site = make_site()
    sets = [tiny_texts("train", 30, seed) for seed in (1, 2, 3)]
    folders = [site.collect(each).folder for each in sets]  # nobody holds the sets themselves
    for age, folder in zip((1, 3, 2), folders, strict=True):
        os.utime(folder / ".in-use", (age, age))
    one = max(map(size_of, folders))
    monkeypatch.setenv("SAE_SANITY_CACHE_MAX", f"{3.5 * one:.0f}")
    fourth = site.collect(tiny_texts("train", 30, 4))
    assert [folder.exists() for folder in folders] == [False, True, True]
    assert fourth.n_tokens
    site.collect(sets[2])  # used again: now the second is the oldest
    del fourth
    fifth = site.collect(tiny_texts("train", 30, 5))
    assert [folder.exists() for folder in folders] == [False, False, True]
    assert fifth.n_tokens


def test_a_set_in_use_is_not_dropped_and_what_does_not_fit_is_one_line(make_site, texts, monkeypatch):
    site = make_site()
    held = site.collect(texts)
    taken = size_of(held.folder)
    monkeypatch.setenv("SAE_SANITY_CACHE_MAX", f"{taken + 100}")
    other = tiny_texts("train", 30, 2)
    with pytest.raises(OSError, match=r"need .* kB beside the .* kB that this and other runs use now, but SAE_SAN"):
        site.collect(other)
    assert all_rows(held).isfinite().all()
    assert site.collect(texts).n_tokens == held.n_tokens  # what is there needs no room
    monkeypatch.setenv("SAE_SANITY_CACHE_MAX", f"{2.5 * taken:.0f}")
    assert site.collect(other).n_tokens


def test_a_limit_below_one_set_is_one_line(make_site, texts, monkeypatch):
    monkeypatch.setenv("SAE_SANITY_CACHE_MAX", "100")
    with pytest.raises(OSError, match=r"the activations need .* kB, but SAE_SANITY_CACHE_MAX is 100 bytes") as error:
        make_site().collect(texts)
    assert error.value.errno == errno.EDQUOT


@pytest.mark.parametrize(("precision", "dtype"), [("bfloat16", torch.bfloat16), ("float32", torch.float32)])
def test_what_is_stored_is_what_any_program_reads(make_site, texts, precision, dtype):
    """Read by safetensors itself; the model computes in float32, and a batch may change its last digit."""
    site = make_site(precision=precision)
    planned = Collector(site, texts, None).n_bytes()
    collected = site.collect(texts)
    shards = [load_file(path) for path in sorted(collected.folder.glob("*.safetensors"))]
    stored = torch.cat([shard["activations"] for shard in shards])
    exact = torch.cat([site.activations(torch.tensor([row]))[0, 1:] for row in site.tokenise(texts.documents)])
    assert len(shards) > 1
    assert stored.dtype == dtype
    assert torch.equal(stored.float(), all_rows(collected))
    assert torch.equal(stored.float(), stored.bfloat16().float()) == (precision == "bfloat16")
    torch.testing.assert_close(stored, exact.to(dtype), rtol=1.6e-2 if dtype == torch.bfloat16 else 1e-5, atol=1e-4)
    assert size_of(collected.folder) <= planned <= 1.2 * size_of(collected.folder)
    (batch,) = collected.batches(64, seed=0, n_batches=1)
    assert {tuple(row.tolist()) for row in batch} <= {tuple(row.tolist()) for row in stored.float()}


def test_a_set_of_one_precision_is_not_read_as_the_other(make_site, texts):
    collected = make_site(precision="float32").collect(texts)
    manifest = collected.folder / "manifest.json"
    manifest.write_text(manifest.read_text().replace("float32", "bfloat16"))
    with pytest.raises(CorruptActivationsError, match="not the header of its set"):
        all_rows(ActivationSet.open(collected.folder))


def test_an_index_of_bfloat16_costs_an_explained_variance_less_than_the_tolerance(make_site, texts):
    """Activations are stored in bfloat16 unless float32 is asked for: what that does to a score of a float32 model."""
    site = make_site()
    collected = site.collect(texts)
    stored = all_rows(collected)
    rows = [site.activations(torch.tensor([row]))[0, 1:] for row in site.tokenise(texts.documents)]
    exact = torch.cat(rows)
    basis = torch.linalg.svd(exact - exact.mean(0)).Vh[:8]

    def explained(x):
        centred = x - exact.mean(0)
        return float(1 - (centred - centred @ basis.T @ basis).square().sum() / (x - x.mean(0)).square().sum())

    assert 0.5 < explained(exact) < 0.99
    assert explained(stored) == pytest.approx(explained(exact), abs=1e-4)


def test_batch_order_is_that_of_the_texts_although_short_ones_come_first(make_site):
    texts = TextSet("train", ("w1 w2 w3 w4 w5", "w6", "w7 w8 w9", "w10 w11", "w12 w13 w14 w15", "w16 w17"))
    site = make_site(batch_size=2)
    batches = site.collect(texts).splice_batches(6)
    assert [n for batch in batches for n in batch.lengths] == [6, 2, 4, 3, 5, 3]


# writing


def test_write_atomically(tmp_path):
    write_atomically(tmp_path / "a", b"one")
    write_atomically(tmp_path / "a", b"two")
    assert files(tmp_path) == {"a": b"two"}


def test_a_full_disk_leaves_what_was_there(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    write_atomically(tmp_path / "a", b"one")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(tmp_path / "a", b"two")
    assert files(tmp_path) == {"a": b"one"}

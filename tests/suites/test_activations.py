from __future__ import annotations

import dataclasses
import json
import tracemalloc

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_site import tiny_texts

from sae_sanity.suites import activations, collector
from sae_sanity.suites.activations import ActivationSet, CorruptActivationsError, Shard, file_sha256


@pytest.fixture
def texts():
    return tiny_texts("train", 30, 1)


@pytest.fixture
def collected(make_site, texts, monkeypatch):
    """Thirty documents in several shards."""
    monkeypatch.setattr(collector, "SHARD_BYTES", 7 * 32 * 16 * 2)
    return make_site().collect(texts)


def made_up(folder, n_tokens, d_in=32, document=32):
    """A set on disk whose rows hold their own number, in shards of 64,000 rows."""
    shards = []
    for number, first in enumerate(range(0, n_tokens, 64_000)):
        rows = np.arange(first, min(first + 64_000, n_tokens))
        wide = np.stack([rows % 251, rows // 251 % 251, rows // 251**2] + [rows * 0] * (d_in - 3), axis=1)
        shard = Shard(number, first // document, len(rows) // document, len(rows), 0, 0, 9.0, "")
        index = {
            "document": (rows // document).astype(np.int32),
            "position": (rows % document + 1).astype(np.int32),
            "lengths": np.full(shard.n_documents, document, dtype=np.int32),
            "tokens": np.zeros(len(rows), dtype=np.int32),
        }
        save_file(
            {"activations": torch.from_numpy(wide).bfloat16()} | {n: torch.from_numpy(x) for n, x in index.items()},
            shard.path(folder),
        )
        shards.append(shard._replace(sha256=file_sha256(shard.path(folder))))
    return ActivationSet(folder, "key", d_in, n_tokens // document, 9.0, tuple(shards))


def numbers(batch):
    """Which rows of a made-up set a batch holds."""
    return (batch[:, 0] + 251 * batch[:, 1] + 251**2 * batch[:, 2]).int().tolist()


# chunks


def test_chunks_against_the_site(collected, make_site, texts):
    site = make_site()
    acts, document, position = (list(part) for part in zip(*collected.chunks(100), strict=True))
    acts, document, position = torch.cat(acts), np.concatenate(document), np.concatenate(position)
    for index, row in enumerate(site.tokenise(texts.documents)):
        expected = site.activations(torch.tensor([row]))[0, 1:]
        mine = torch.from_numpy(document == index)
        assert position[document == index].tolist() == list(range(1, len(row)))
        torch.testing.assert_close(acts[mine], expected, atol=1e-3, rtol=2**-8)


def test_chunks_are_float32_and_in_order(collected):
    last = -1
    for acts, document, position in collected.chunks(64):
        assert acts.dtype == torch.float32
        assert len(acts) == len(document) == len(position)
        assert (np.diff(document) >= 0).all()
        assert document[0] > last
        last = document[-1]
    assert last == 29


@pytest.mark.parametrize("max_tokens", [1, 30, 64, 10_000])
def test_a_document_never_spans_two_chunks(collected, max_tokens):
    chunks = [(len(acts), set(document)) for acts, document, _ in collected.chunks(max_tokens)]
    seen = [index for _, documents in chunks for index in documents]
    assert len(seen) == len(set(seen)) == 30
    assert sum(n for n, _ in chunks) == collected.n_tokens
    assert all(n <= max_tokens or len(documents) == 1 for n, documents in chunks)


@pytest.mark.parametrize(
    ("document", "max_tokens", "spans"),
    [
        ([], 4, []),
        ([0, 0, 0], 2, [(0, 3)]),
        ([0, 0, 1, 1, 2], 4, [(0, 4), (4, 5)]),
        ([0, 0, 1, 1, 1, 1, 1, 2], 3, [(0, 2), (2, 7), (7, 8)]),
        ([5, 5, 5], 3, [(0, 3)]),
    ],
)
def test_whole_documents(document, max_tokens, spans):
    assert list(activations._whole_documents(np.array(document, dtype=np.int32), max_tokens)) == spans


# batches


def test_batches_are_those_of_the_seed(collected):
    def run(seed):
        return torch.stack(list(collected.batches(32, seed=seed, n_batches=9)))

    assert torch.equal(run(3), run(3))
    assert not torch.equal(run(3), run(4))


def test_batches_have_the_size_and_number_asked_for(collected):
    batches = list(collected.batches(50, seed=0, n_batches=40))  # three times through the set
    assert [tuple(batch.shape) for batch in batches] == [(50, 16)] * 40
    assert batches[0].dtype == torch.float32
    assert list(collected.batches(50, seed=0, n_batches=0)) == []


def test_fewer_batches_are_a_prefix_of_more(collected):
    few, many = (list(collected.batches(32, seed=1, n_batches=n)) for n in (3, 8))
    assert all(torch.equal(one, other) for one, other in zip(few, many, strict=False))


def test_batches_hold_rows_of_the_set_bit_for_bit(collected):
    rows = {row.numpy().tobytes() for acts, _, _ in collected.chunks() for row in acts}
    assert {row.numpy().tobytes() for batch in collected.batches(64, seed=0, n_batches=4) for row in batch} <= rows


def test_no_row_comes_again_before_nearly_all_have_come(tmp_path, monkeypatch):
    monkeypatch.setattr(activations, "BUFFER_ROWS", 8_000)
    made = made_up(tmp_path, 160_000)
    # Rows are read in passes; only what still waits in the buffer can come late.
    seen = [row for batch in made.batches(1000, seed=0, n_batches=152) for row in numbers(batch)]
    assert len(set(seen)) == len(seen) == 152_000
    seen = [row for batch in made.batches(1000, seed=0, n_batches=320) for row in numbers(batch)]
    assert np.bincount(seen, minlength=160_000).max() <= 3
    assert np.bincount(seen, minlength=160_000).mean() == 2


def test_batches_mix_documents(tmp_path):
    made = made_up(tmp_path, 160_000)
    for batch in made.batches(1000, seed=0, n_batches=20):
        rows = np.array(numbers(batch))
        # Of 5,000 documents of 32 rows, 1,000 rows drawn at random meet 908.
        assert len(set(rows // 32)) > 750
        # Uniform on the whole set would have a standard deviation of 46,188 about a mean of 80,000.
        assert abs(rows.mean() - 80_000) < 8_000
        assert 42_000 < rows.std() < 50_000


def test_a_set_smaller_than_a_batch_repeats(make_site):
    small = make_site().collect(tiny_texts("small", 1, 1))
    batch = next(iter(small.batches(256, seed=0, n_batches=1)))
    assert len(batch) == 256
    assert len({row.numpy().tobytes() for row in batch}) == small.n_tokens == 20


def test_memory_stays_flat_when_the_set_grows_tenfold(tmp_path, monkeypatch):
    monkeypatch.setattr(activations, "BUFFER_ROWS", 16_000)

    def peak(n_tokens):
        folder = tmp_path / str(n_tokens)
        folder.mkdir()
        made = made_up(folder, n_tokens)
        tracemalloc.start()  # it knows of NumPy's buffers, which hold everything here but one batch
        for _ in made.batches(2000, seed=0, n_batches=n_tokens // 2000):
            pass
        for _ in made.chunks():
            pass
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    small, large = peak(64_000), peak(640_000)
    buffer = 16_000 * 32 * 2
    assert small > buffer  # the measurement sees the buffer at all
    # 37 MB more on disk. In memory: the index of a second shard, and a few times 24 bytes for each block of 64 rows.
    assert large - small < 64_000 * 12 + 4 * 24 * 640_000 // 64


def test_nothing_to_train_on(collected):
    empty = ActivationSet(collected.folder, "key", 16, 0, 1.0, ())
    with pytest.raises(ValueError, match="no token to train on"):
        next(iter(empty.batches(8, seed=0, n_batches=1)))


# masks and tokens


def test_kept_mask_against_the_rows(collected):
    kept = {(d, p) for _, document, position in collected.chunks() for d, p in zip(document, position, strict=True)}
    mask = collected.kept_mask([3, 29, 0], 32)
    for row, document in enumerate([3, 29, 0]):
        assert {(document, int(p)) for p in mask[row].nonzero()} == {pair for pair in kept if pair[0] == document}


def test_kept_mask_of_an_unknown_document(collected):
    with pytest.raises(IndexError, match="no document 30: the set has 30"):
        collected.kept_mask([30], 32)


def test_splice_batches_are_the_documents_as_tokens(collected, make_site, texts):
    site = make_site()
    rows = site.tokenise(texts.documents[:10])
    batches = list(collected.splice_batches(10, batch_size=4))
    assert [len(batch.tokens) for batch in batches] == [4, 4, 2]
    found = [row[:n].tolist() for batch in batches for row, n in zip(batch.tokens, batch.lengths, strict=True)]
    assert found == rows
    for start, batch in zip((0, 4, 8), batches, strict=True):
        documents = range(start, start + len(batch.tokens))
        assert torch.equal(batch.kept, collected.kept_mask(documents, batch.tokens.shape[1]))
        assert not batch.kept[:, 0].any()


def test_splice_batches_of_more_documents_than_there_are(collected):
    assert sum(len(batch.tokens) for batch in collected.splice_batches(99)) == 30


# on disk


def test_open_gives_the_same_set(collected):
    opened = ActivationSet.open(collected.folder)
    assert opened.shards == collected.shards
    assert (opened.key, opened.norm_cap) == (collected.key, collected.norm_cap)
    for one, other in zip(opened.chunks(), collected.chunks(), strict=True):
        assert torch.equal(one[0], other[0])


def test_a_shard_is_what_safetensors_reads(collected):
    for shard in collected.shards:
        tensors = load_file(shard.path(collected.folder))
        rows = tensors.pop("activations")
        assert rows.dtype == torch.bfloat16
        assert rows.shape == (shard.n_rows, 16)
        assert torch.equal(torch.from_numpy(collected._rows(shard, 0, shard.n_rows)).view(torch.bfloat16), rows)
        assert torch.equal(torch.from_numpy(collected._rows(shard, 3, 9)).view(torch.bfloat16), rows[3:9])
        index = collected._index(shard)
        assert set(index) == set(tensors)
        assert all(np.array_equal(index[name], tensor.numpy()) for name, tensor in tensors.items())


def _flip(path):
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)


@pytest.mark.parametrize(
    "damage", [_flip, lambda path: path.write_bytes(path.read_bytes()[:-100]), lambda path: path.unlink()]
)
def test_open_names_a_corrupt_shard(collected, damage):
    damage(collected.folder / "shard-00002.safetensors")
    with pytest.raises(CorruptActivationsError, match=r"shard-00002\.safetensors is missing or corrupt; delete"):
        ActivationSet.open(collected.folder)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"key": "x"', '{"key": "x", "shards": [{}]}'])
def test_open_names_an_unreadable_manifest(collected, text):
    (collected.folder / "manifest.json").write_text(text)
    with pytest.raises(CorruptActivationsError, match=r"manifest.json cannot be read"):
        ActivationSet.open(collected.folder)


def test_open_without_a_manifest(tmp_path):
    with pytest.raises(CorruptActivationsError, match="delete the folder"):
        ActivationSet.open(tmp_path)


@pytest.mark.parametrize("left", [-2, 600, 0])
def test_a_shard_that_is_cut_while_it_is_read(collected, left):
    path = collected.shards[-1].path(collected.folder)
    collected._rows(collected.shards[-1], 0, 1)
    path.write_bytes(path.read_bytes()[:left])
    with pytest.raises(CorruptActivationsError, match="is truncated"):
        list(collected.chunks())


def _with_header(path, header):
    """Give a shard another header; its data stay."""
    raw = path.read_bytes()
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + raw[8 + int.from_bytes(raw[:8], "little") :])


def _changed(**changes):
    """Damage that changes what the header says of one tensor."""

    def damage(path):
        raw = path.read_bytes()
        header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
        for name, entry in changes.items():
            header[name] |= entry(header[name])
        _with_header(path, header)

    return damage


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"\xff" * 8 + path.read_bytes()[8:]),
        lambda path: path.write_bytes((2**40).to_bytes(8, "little") + path.read_bytes()[8:]),
        lambda path: path.unlink(),
        lambda path: _with_header(path, b"{"),
        lambda path: _with_header(path, b"\xff"),
        lambda path: _with_header(path, b"[" * 100_000),
        lambda path: _with_header(path, {}),
        lambda path: _with_header(path, [1]),
        lambda path: _with_header(path, dict.fromkeys(["activations", "document", "position", "lengths", "tokens"], 1)),
        _changed(activations=lambda entry: {"shape": [entry["shape"][0], 8]}),
        _changed(activations=lambda entry: {"shape": [2 * entry["shape"][0], 8]}),
        _changed(activations=lambda entry: {"dtype": "F16"}),
        _changed(activations=lambda entry: {"shape": None}),
        _changed(activations=lambda entry: {"data_offsets": [at - 2**20 for at in entry["data_offsets"]]}),
        _changed(tokens=lambda entry: {"data_offsets": [-4, entry["data_offsets"][1] - entry["data_offsets"][0] - 4]}),
        _changed(tokens=lambda entry: {"data_offsets": [at + 4 for at in entry["data_offsets"]]}),
        _changed(tokens=lambda entry: {"data_offsets": [float(at) for at in entry["data_offsets"]]}),
        _changed(lengths=lambda entry: {"dtype": "BF16"}),
        _changed(lengths=lambda entry: {"shape": [[1]]}),
        _changed(
            position=lambda entry: {
                "shape": [entry["shape"][0] - 1],
                "data_offsets": [entry["data_offsets"][0], entry["data_offsets"][1] - 4],
            }
        ),
    ],
)
def test_a_damaged_or_hostile_header_is_a_corrupt_set(collected, damage):
    """Where whoever did it made the hashes right, or the file changed after they were compared."""
    last = collected.shards[-1]
    damage(last.path(collected.folder))
    own = dataclasses.replace(
        collected, shards=(last._replace(sha256=file_sha256_or_none(last.path(collected.folder))),)
    )
    for read in (lambda: own._index(own.shards[0]), lambda: own._rows(own.shards[0], 0, 2)):
        with pytest.raises(CorruptActivationsError, match=r"shard-0000\d\.safetensors.*delete the folder") as error:
            read()
        assert "\n" not in str(error.value)


def file_sha256_or_none(path):
    return file_sha256(path) if path.exists() else "gone"


def test_the_manifest_is_plain_json(collected):
    manifest = json.loads((collected.folder / "manifest.json").read_text())
    assert manifest["n_documents"] == 30
    assert sum(shard["n_rows"] for shard in manifest["shards"]) == collected.n_tokens

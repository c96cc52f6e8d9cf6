"""Causal editing of five SAEs against SAEBench's RAVEL of one, on the same pairs for the same number of epochs.

    python benchmarks/causal_editing.py --pairs 256

The demo's model and packaged facts about cities, one attribute, five SAEs with random directions. Both learn a mask on
the same training pairs and let the edited model answer the same test pairs; SAEBench runs its own `train_mdbm` and
`generate_batched_interventions` on its own loader of these pairs. What ours computes once for all SAEs (clean states,
prefixes, its self-test) is counted. Printed: seconds, the ratio of five SAEs to SAEBench's one, and how far the two
agree on isolation and cause.
"""

# The rooms are mapped to sae_sanity.* at install time, which pyright does not follow from outside the four folders.
# pyright: reportMissingImports=false

from __future__ import annotations

import argparse
import random
import time
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import patch

import numpy as np
import torch
from figures import emit
from sae_bench.evals.ravel import intervention, mdbm
from sae_bench.evals.ravel import main as ravel
from sae_bench.evals.ravel.eval_config import RAVELEvalConfig
from sae_bench.sae_bench_utils import activation_collection
from sae_lens import TopKSAE, TopKSAEConfig
from sae_lens.saes.sae import SAEMetadata
from torch.utils.data import DataLoader

from sae_sanity.suites.causal_editing.coded import code
from sae_sanity.suites.causal_editing.editor import Editor
from sae_sanity.suites.causal_editing.facts import city_facts
from sae_sanity.suites.causal_editing.known import Known, know
from sae_sanity.suites.causal_editing.mdbm import Wanted, edited, train_mask
from sae_sanity.suites.causal_editing.pairs import Pair, Task, draw_tasks, pairs_of
from sae_sanity.suites.causal_editing.trial import Trial
from sae_sanity.suites.saebench.ravel import layer_with_tuples
from sae_sanity.suites.site import Site
from sae_sanity.suites.smollm2 import demo_site

LAYER, BATCH, EPOCHS, N_TOKENS, LR, D_SAE = 12, 32, 2, 4, 1e-3, 1024


def make_sae(seed: int, d_in: int) -> TopKSAE:
    """Random unit directions, the same for reading and writing."""
    metadata = SAEMetadata(hook_name=f"blocks.{LAYER}.hook_resid_post", model_name="demo", prepend_bos=True)
    sae = TopKSAE(TopKSAEConfig(d_in=d_in, d_sae=D_SAE, k=32, metadata=metadata))
    rows = torch.nn.functional.normalize(torch.randn(D_SAE, d_in, generator=torch.Generator().manual_seed(seed)), dim=1)
    sae.load_state_dict(sae.state_dict() | {"W_dec": rows, "W_enc": rows.T.contiguous()})
    vars(sae.cfg)["hook_layer"] = LAYER  # where SAEBench looks
    return sae.requires_grad_(False)


def ours(
    site: Site, known: Known, task: Task, pairs: list[Pair], saes: list[TopKSAE]
) -> tuple[float, list[tuple[float, float]]]:
    """Seconds for all SAEs, with (isolation, cause) of each."""
    start = time.perf_counter()
    editor = Editor(site, [each.prompt for each in known.right])
    wanted = Wanted(*(tuple(getattr(pair, name) for pair in task.train) for name in ("base", "source", "token")))
    found = []
    trial = Trial(editor, site.tokenizer, known, N_TOKENS)
    for sae in saes:
        coded = code(sae, editor.clean())
        mask = train_mask(
            coded.runs(editor), wanted, coded.codes, coded.decode, epochs=EPOCHS, lr=LR, batch_size=BATCH,
            generator=torch.Generator().manual_seed(0),
        )  # fmt: skip
        base, source = [pair.base for pair in pairs], [pair.source for pair in pairs]
        with torch.no_grad():
            rows = coded.activations(base, edited(coded.codes[base], coded.codes[source], mask, coded.decode))
        right = [
            trial.is_right(pair, text)
            for pair, text in zip(
                pairs, site.tokenizer.batch_decode(editor.generate(base, rows, N_TOKENS)), strict=True
            )
        ]
        cause = np.array([known.right[pair.base].prompt.attribute == task.attribute for pair in pairs])
        found.append((float(np.mean(np.array(right)[~cause])), float(np.mean(np.array(right)[cause]))))
    return time.perf_counter() - start, found


def theirs(site: Site, known: Known, task: Task, pairs: list[Pair], sae: TopKSAE) -> tuple[float, tuple[float, float]]:
    """Seconds for one SAE, with (isolation, cause), by SAEBench's own functions."""
    config = RAVELEvalConfig(model_name="demo", llm_batch_size=BATCH, num_epochs=EPOCHS, learning_rate=LR)
    tokenizer = site.tokenizer
    tokenizer.pad_token = tokenizer.convert_ids_to_tokens(2)  # not BOS, which it would hide
    site.model.generation_config.eos_token_id = None
    site.model.generation_config.pad_token_id = 2
    with (
        patch.object(activation_collection, "get_module", layer_with_tuples),
        patch.object(ravel, "AutoTokenizer", SimpleNamespace(from_pretrained=lambda _: tokenizer)),
    ):
        train = ravel.create_dataloader_from_pairs(_tuples(known, task, task.train), site.model, config)
        test = ravel.create_dataloader_from_pairs(_tuples(known, task, pairs), site.model, config)
        start = time.perf_counter()
        trained = mdbm.train_mdbm(site.model, tokenizer, config, sae.to(site.model.dtype), train, test)
        loader = cast("DataLoader[Any]", test)  # a list of batches, as SAEBench itself passes it
        scores = intervention.generate_batched_interventions(site.model, trained, tokenizer, loader, N_TOKENS)
    return time.perf_counter() - start, scores


def _tuples(known: Known, task: Task, pairs: list[Pair] | tuple[Pair, ...]) -> list[tuple]:
    """What SAEBench's `create_dataloaders` makes of pairs; an isolation pair has the base's token twice."""
    made = []
    for pair in pairs:
        base, source = known.right[pair.base].prompt, known.right[pair.source].prompt
        tokens = (list(base.tokens), list(source.tokens))
        positions = (base.position - len(base.tokens), source.position - len(source.tokens))
        keep = base.attribute != task.attribute
        made.append(
            (*tokens, None, None, *positions, pair.token if keep else pair.other, pair.token, base.text, pair.value)
        )
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description="five SAEs of ours against one of SAEBench's RAVEL")
    parser.add_argument("--pairs", type=int, default=256)
    parser.add_argument("--saes", type=int, default=5)
    parser.add_argument("--cities", type=int, default=300)
    options = parser.parse_args()
    random.seed(0)
    cache = Path.home() / ".cache" / "sae-sanity"
    with TemporaryDirectory() as folder:
        site = demo_site(cache if cache.is_dir() else Path(folder))
        site.model.requires_grad_(False)
        known = know(site, city_facts(options.cities), n_entities=options.cities, n_tokens=N_TOKENS)
        task = draw_tasks(known, n_train=options.pairs, n_sources=1, seed=0)[0]
        # SAEBench drops what does not fill a batch; neither side is given any.
        lesson, pairs = (list(some)[: len(some) // BATCH * BATCH] for some in (task.train, pairs_of(task.test)))
        task = replace(task, train=tuple(lesson))
        print(f"{task.attribute}: {len(lesson)} training pairs, {len(pairs)} test pairs, {EPOCHS} epochs")
        saes = [make_sae(seed, site.d_in) for seed in range(options.saes)]
        seconds, found = ours(site, known, task, pairs, saes)
        print(f"ours: {seconds:.1f} s for {len(saes)} SAEs; isolation and cause of the first {found[0]}")
        one, scores = theirs(site, known, task, pairs, saes[0])
        print(f"SAEBench: {one:.1f} s for one SAE; isolation and cause {scores}")
        print(f"ratio: {seconds / one:.2f} of SAEBench's one")
        gap = max(abs(a - b) for a, b in zip(found[0], scores, strict=True))
        emit("causal_editing", {"ratio": seconds / one, "disagreement": gap})


if __name__ == "__main__":
    main()

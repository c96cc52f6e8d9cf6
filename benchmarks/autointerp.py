"""AutoInterp of several SAEs in one queue against SAEBench's, arm by arm, with the same judge.

    python benchmarks/autointerp.py --latents 200

The demo's model and texts, five SAEs with random directions, and a judge in a process of its own that answers at once.
Ours reads the activations once for all SAEs and asks three questions a latent (explanation, detection in SAEBench's
layout and in the balanced one); SAEBench's `AutoInterp` reads them twice for each SAE and asks two. Both read the same
tokens and have ten questions in flight, as SAEBench has. Printed: seconds, their ratio, questions per second while ours
asks, and how far our memory rose from before it asked.
"""

# The rooms are mapped to sae_sanity.* at install time, which pyright does not follow from outside the four folders.
# pyright: reportMissingImports=false

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import psutil
import torch
from figures import emit
from sae_bench.evals.autointerp import main as saebench
from sae_bench.evals.autointerp.eval_config import AutoInterpEvalConfig
from sae_bench.sae_bench_utils import activation_collection
from sae_lens import SAE, JumpReLUSAE, JumpReLUSAEConfig
from sae_lens.saes.sae import SAEMetadata
from transformer_lens import HookedTransformer

from sae_sanity.suites.autointerp.examples import Layout
from sae_sanity.suites.autointerp.suite import AutoInterp
from sae_sanity.suites.autointerp.survey import Corpus
from sae_sanity.suites.corpora import PACKAGED, load_texts
from sae_sanity.suites.joined import JoinedSets
from sae_sanity.suites.judges.answers import AnswerStore
from sae_sanity.suites.judges.budget import Spent
from sae_sanity.suites.judges.openai_judge import OpenAIJudge
from sae_sanity.suites.saebench import LanguageModel, contained, lent
from sae_sanity.suites.smollm2 import demo_site
from sae_sanity.suites.suite import Judging

HOOK = "blocks.12.hook_resid_post"


class Instant(BaseHTTPRequestHandler):
    """Answers every question at once."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self) -> None:  # noqa: D102
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        asks = body["messages"][-1]["content"].startswith("Here is the explanation")
        message = {
            "role": "assistant",
            "content": "1, 3" if asks else "This neuron activates on words",
            "refusal": None,
        }
        answer = {
            "id": "1",
            "object": "chat.completion",
            "created": 1,
            "model": body["model"],
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 700, "completion_tokens": 5, "total_tokens": 705},
        }
        data = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


def serve() -> None:
    class Server(ThreadingHTTPServer):
        request_queue_size = 128
        daemon_threads = True

    server = Server(("127.0.0.1", 0), Instant)
    print(server.server_address[1], flush=True)
    server.serve_forever()


def random_sae(seed: int, d_in: int, d_sae: int, acts: torch.Tensor, l0: float) -> SAE:
    """An SAE with random directions that fires about `l0` times a token."""
    sae = JumpReLUSAE(
        JumpReLUSAEConfig(
            d_in=d_in, d_sae=d_sae, metadata=SAEMetadata(hook_name=HOOK, model_name="any", prepend_bos=True)
        )
    )
    generator = torch.Generator().manual_seed(seed)
    rows = torch.nn.functional.normalize(torch.randn(d_sae, d_in, generator=generator), dim=1)
    sae.W_dec.data, sae.W_enc.data = rows.clone(), rows.T.clone()
    sae.b_dec.data, sae.b_enc.data = acts.mean(0), -(acts.mean(0) @ rows.T)
    hidden = acts @ sae.W_enc.data + sae.b_enc.data
    sae.threshold.data = torch.full(
        (d_sae,), float(hidden.flatten().kthvalue(int(hidden.numel() * (1 - l0 / d_sae)))[0])
    )
    # What SAEBench reads of a configuration.
    for name, value in {"hook_layer": 12, "hook_name": HOOK, "model_name": "any"}.items():
        setattr(sae.cfg, name, value)
    return sae


def ours(suite: AutoInterp, saes: list[SAE], latents: int) -> tuple[float, float, float]:
    marks: dict[str, list[float]] = {}

    def told(stage: str, done: int, total: int) -> None:
        marks.setdefault(stage, []).append(time.perf_counter())

    object.__setattr__(suite.judging, "told", told)
    process = psutil.Process()
    start = time.perf_counter()
    suite.measure_together([partial(lambda sae: sae, sae) for sae in saes], np.random.default_rng(0))
    seconds = time.perf_counter() - start
    asking = sum(times[-1] - times[0] for times in marks.values())
    return seconds, suite.judging.spent.questions / asking, process.memory_info().rss / 2**30


def theirs(sae: SAE, model: HookedTransformer, tokens: torch.Tensor, latents: int) -> None:
    config = AutoInterpEvalConfig(
        model_name="any", n_latents=latents, llm_batch_size=32, llm_dtype="float32", total_tokens=tokens.numel()
    )
    sparsity = activation_collection.get_feature_activation_sparsity(
        tokens, model, sae, 32, 12, HOOK, mask_bos_pad_eos_tokens=True
    )
    asyncio.run(saebench.AutoInterp(config, model, sae, tokens, sparsity, "cpu", "none").run())


def main() -> None:
    parser = argparse.ArgumentParser(description="AutoInterp in one queue against SAEBench's arm by arm")
    parser.add_argument("--latents", type=int, default=200)
    parser.add_argument("--tokens", type=int, default=60_000)
    parser.add_argument("--arms", type=int, default=5)
    parser.add_argument("--d-sae", type=int, default=1024)
    parser.add_argument("--ours-alone", action="store_true", help="questions a second and memory, without SAEBench")
    parser.add_argument("--serve", action="store_true")
    options = parser.parse_args()
    if options.serve:
        serve()
        return
    server = subprocess.Popen([sys.executable, __file__, "--serve"], stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    url = f"http://127.0.0.1:{int(server.stdout.readline())}/v1"
    os.environ |= {"OPENAI_BASE_URL": url, "OPENAI_API_KEY": "none"}
    try:
        run(options, url)
    finally:
        server.kill()


def run(options: argparse.Namespace, url: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        cache = Path(folder)
        site = demo_site(cache, hook_name=HOOK, context_size=128, device="cpu")
        texts = load_texts(
            PACKAGED,
            n_train_tokens=options.tokens,
            n_calibration_tokens=2000,
            n_held_out_docs=2,
            exclude_datasets=(),
            tokenizer=site.tokenizer,
            seed=0,
            context_size=128,
        ).train
        start = time.perf_counter()
        activations = site.collect(texts, norm_cap=None)
        reading = time.perf_counter() - start
        acts = next(iter(activations.chunks(8192)))[0]
        saes = [random_sae(seed, site.d_in, options.d_sae, acts, 32.0) for seed in range(options.arms)]
        judging = Judging(OpenAIJudge("tiny", url), AnswerStore(cache / "answers.sqlite"), Spent())
        # The cap of the set that is read above, by which it is found again: another would have it read twice.
        settings = {"n_latents": options.latents, "layout": Layout(), "seed": 0, "norm_cap": None}
        suite = AutoInterp(site, [texts], judging, **settings)
        before = psutil.Process().memory_info().rss / 2**30
        seconds, rate, after = ours(suite, saes, options.latents)
        seconds += reading
        questions = judging.spent.questions
        read = f"{seconds:.1f} s ({reading:.1f} of it the language model)"
        print(f"ours: {read}, {questions} questions, {rate:.0f} a second")
        print(f"memory: {before:.2f} GiB before asking, {after:.2f} after")
        figures = {"seconds": seconds, "questions a second": rate, "memory before": before, "memory after": after}
        if options.ours_alone:
            emit("autointerp", figures)
            return
        tokens = Corpus.of(JoinedSets((activations,))).tokens
        language = LanguageModel("any", site.model, site.tokenizer, bos_token_id=site.bos_token_id)
        with lent(language), contained(cache / "log", 0):
            model = HookedTransformer.from_pretrained_no_processing("any", dtype=torch.float32)
            start = time.perf_counter()
            for sae in saes:
                theirs(sae, model, tokens, options.latents)
            other = time.perf_counter() - start
        print(f"SAEBench: {other:.1f} s for {len(saes)} SAEs one after another; ratio {other / seconds:.1f}")
        emit("autointerp", figures | {"ratio": other / seconds})


if __name__ == "__main__":
    main()

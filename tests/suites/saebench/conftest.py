"""A tiny language model, three tiny SAEs on it and the data that SAEBench would fetch from a hub."""

from __future__ import annotations

import shutil
import tempfile
import warnings
from pathlib import Path

import jaxtyping
import pytest
import torch
from sae_bench.sae_bench_utils import dataset_info
from sae_lens import SAE
from sae_lens.saes.sae import SAEMetadata
from sae_lens.saes.topk_sae import TopKSAE, TopKSAEConfig
from saebench_world import make_hub
from tiny_site import tiny_model, tiny_tokenizer

from sae_sanity.suites.saebench import EVALS, Job, LanguageModel, contained, lent, make_config

D_IN, D_SAE = 16, 48


@pytest.fixture(autouse=True)
def _no_names_of_sizes(monkeypatch):
    """Names of sizes leak out of jaxtyping's frames into SAEBench's own checks (once in some twenty runs)."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


@pytest.fixture(autouse=True)
def _offline(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture(scope="session")
def language():
    return LanguageModel("tiny-llama", tiny_model(), tiny_tokenizer(), bos_token_id=0)


@pytest.fixture(scope="session")
def make_sae():
    """An SAE of its own weights for every seed; a fresh object at every call."""

    def make(seed: int) -> SAE:
        generator = torch.Generator().manual_seed(seed)
        metadata = SAEMetadata(hook_name="blocks.1.hook_resid_post", model_name="tiny-llama", prepend_bos=True)
        sae = TopKSAE(TopKSAEConfig(d_in=D_IN, d_sae=D_SAE, k=8, rescale_acts_by_decoder_norm=False, metadata=metadata))
        directions = torch.nn.functional.normalize(torch.randn(D_SAE, D_IN, generator=generator), dim=1)
        with torch.no_grad():
            sae.W_dec.copy_(directions)
            sae.W_enc.copy_(directions.T)
        return sae

    return make


@pytest.fixture
def make_job(language, make_sae, tmp_path):
    """A job with folders of its own."""

    def make(eval_name: str, seed: int = 0, *, root: Path = tmp_path, sae: SAE | None = None, **options) -> Job:
        folders = {name: root / name for name in ("output", "artefacts", "work")}
        # SAEBench adds the name of the eval to the outputs of SCR and TPP.
        folders["output"] = folders["output"] / eval_name
        for folder in folders.values():
            folder.mkdir(parents=True, exist_ok=True)
        return Job(
            name=f"sae-{seed}",
            sae=sae or make_sae(seed),
            config=make_config(EVALS[eval_name], options, language.name, d_sae=D_SAE),
            language=language,
            device="cpu",
            **folders,
        )

    return make


@pytest.fixture
def run(make_job, language, tmp_path):
    """Prepare an eval and run it on SAEs, as the harness does."""

    def go(eval_name: str, seeds=(0,), root: Path = tmp_path, **options):
        evaluation, found = EVALS[eval_name], []
        for number, seed in enumerate(seeds):
            with lent(language):
                if number == 0 and evaluation.prepare:
                    with contained(root / "log", 42):
                        evaluation.prepare(make_job(eval_name, seed, root=root, **options))
                with contained(root / "log", 42):
                    found.append(evaluation.run(make_job(eval_name, seed, root=root, **options)))
        return found

    return go


@pytest.fixture
def by_hand(language):
    """Let SAEBench find the tiny model under its own name, without anything of ours."""
    import transformer_lens.loading_from_pretrained as loading

    folder = tempfile.mkdtemp(prefix="model-")  # pytest's own paths hold words from which an architecture is guessed
    model = tiny_model()
    model.config.architectures = ["LlamaForCausalLM"]
    model.save_pretrained(folder)
    language.tokenizer.save_pretrained(folder)
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        patch.setattr(loading, "OFFICIAL_MODEL_NAMES", [folder])
        patch.setitem(loading.MODEL_ALIASES, folder, [language.name])
        yield
    shutil.rmtree(folder)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A working directory with folders that are named as the hub's datasets are."""
    # Two classes of five: every one costs a probe.
    monkeypatch.setitem(dataset_info.chosen_classes_per_dataset, "LabHC/bias_in_bios_class_set1", ["0", "1"])
    folder = make_hub(tmp_path / "hub")
    monkeypatch.chdir(folder)
    return folder

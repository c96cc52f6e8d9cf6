"""AutoInterp: can an LLM say what a latent fires on, well enough to find it again in other texts."""

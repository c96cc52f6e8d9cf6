"""Judges: what answers the questions about latents, from an LLM behind a server to a deterministic scorer."""

"""Causal editing: RAVEL, item by item, on any language model of `transformers`."""

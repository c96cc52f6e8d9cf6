"""Score rows, statistics, the assay gate, verdicts and reports. Imports neither torch nor a model."""

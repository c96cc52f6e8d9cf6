"""The synthetic suite as a run of its own: worlds, arms in each of them, cells, verdict, the paper's experiment."""

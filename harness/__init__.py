"""The command line, configuration, the plan of cells, running and resuming them."""

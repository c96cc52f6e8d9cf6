"""Who measures the cells of a check: this process, or workers of a Ray cluster; the rows are the same."""

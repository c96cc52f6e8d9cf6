"""What stands beside a release: a badge, a block of a model card, citations; each says no more than the report."""

"""What is measured on one SAE: the site (language model, hook, texts) and one suite per module."""

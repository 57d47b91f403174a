"""The command groups of `hanse`, one module each."""

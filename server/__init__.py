"""The coordinator: rounds, aggregation, checkpoints and the Flower server that runs them."""

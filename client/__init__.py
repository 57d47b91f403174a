"""One institution: its data, its training loop, and the Flower client that relays for it."""

"""How a saved sequence classifier bears texts that are written otherwise, or against it."""

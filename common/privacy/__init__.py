"""What was released, and what it costs."""

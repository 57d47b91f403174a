"""The environment variables that Hanse reads, and that its engines hand on to worker processes."""

from __future__ import annotations

from typing import Final

__all__ = ["PASSED_ON", "SITES_VARIABLE", "STATE_VARIABLE", "THREADS_VARIABLE", "WORKER_VARIABLE"]

THREADS_VARIABLE: Final = "HANSE_THREADS"
"""How many threads torch may use in this process."""

WORKER_VARIABLE: Final = "HANSE_WORKER"
"""Which of the engine's processes this is; spreads them over several GPUs."""

SITES_VARIABLE: Final = "HANSE_SITES"
"""Folder that holds the virtual sites' own folders, by name."""

STATE_VARIABLE: Final = "HANSE_STATE"
"""Where they lie else, by study; the user's state folder if it is not set."""

PASSED_ON: Final = (SITES_VARIABLE, STATE_VARIABLE)
"""What an engine hands to its worker processes as it stands."""

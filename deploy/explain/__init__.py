"""Why a saved sequence classifier answers as it does, on public texts."""

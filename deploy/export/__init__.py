"""Smaller and faster forms of a saved sequence classifier, each held against the original."""

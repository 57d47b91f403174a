"""Tests of the economics of a shared model."""

"""Tests of an institution's side of a deployment."""

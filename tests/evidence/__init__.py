"""Figures that README, docs and notes state, each remade by one named command."""

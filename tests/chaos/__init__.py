"""A running federation under fire: faults at random moments, and what must hold after them.

``make chaos N=50 SEED=1`` injects N faults; the tests here inject a few of each kind.
"""

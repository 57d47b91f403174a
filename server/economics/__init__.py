"""What a shared model is worth, to whom, and at what price of privacy.

Pure functions over frozen values: contribution (games, values, estimates), rewards and signed statements, the
market for privacy (auction, posted price, weights), and the choice of sites under budgets.
"""

"""What an auditor runs: verification of ledgers, recomputation, and the statistics of empirical audits.

Everything here is pure, takes files and public keys rather than anybody's word, and loads no torch.

==================  =====================================================================================
ledger_audit        bundles against keys, witnessed heads and run records: numbered checks, recomputed epsilon
intervals           exact binomial intervals
trade_off           what (epsilon, delta), Gaussian or a recorded mechanism allow an attacker at most
trials              lower bounds from independent trials, and the profile test
component           the component audit of DP-SGD, composed by PLD
one_run             one-run auditing, and one_run_trade_off against a whole trade-off curve
membership          true positives at a false positive rate, and the area under the curve, with intervals
noise_tests         scale and independence of noise; sampler_tests: sizes, inclusions, empty batches
==================  =====================================================================================
"""

"""The empirical audit: trains a marked copy of a study's pipeline on one site's data and attacks it."""

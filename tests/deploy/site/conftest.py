"""A federation's folder for the tests of its sites; nothing runs."""

from tests.deploy.federation.conftest import federation, two_sites

__all__ = ["federation", "two_sites"]

"""The errors of Hanse.

    HanseError
    ├── BadInput          what a person gave us cannot be used        exit code 2
    │   └── NotYet        it could be, but this version cannot        exit code 2
    ├── PolicyRefusal     the institution's policy says no            exit code 3
    ├── BudgetExceeded    the privacy budget does not allow it        exit code 3
    ├── AuditFailure      a claim did not survive verification        exit code 4
    └── RunFailed         a run could not be completed                exit code 1

A message says where, what and the mend in one line:
``study.toml: privacy.epsilon = -3: must be greater than 0; try 8.0``.
Only ``deploy/cli.py`` turns errors into text.
"""

from __future__ import annotations

from typing import ClassVar

__all__ = [
    "AuditFailure",
    "BadInput",
    "BudgetExceeded",
    "HanseError",
    "NotYet",
    "PolicyRefusal",
    "RunFailed",
]


class HanseError(Exception):
    """Any error that a user of Hanse can be told about in one line."""

    exit_code: ClassVar[int] = 1


class BadInput(HanseError):
    """What was given cannot be used: a file, a key, a value, a row."""

    exit_code = 2


class NotYet(BadInput):
    """The value is a legal one, but this version of Hanse cannot do it; the message names it."""


class PolicyRefusal(HanseError):
    """The institution's policy does not agree to what was asked."""

    exit_code = 3


class BudgetExceeded(HanseError):
    """The institution's privacy budget does not cover what was asked."""

    exit_code = 3


class AuditFailure(HanseError):
    """Evidence did not survive verification: it was changed, truncated, or never valid."""

    exit_code = 4

    def __init__(self, message: str, check: int = 0, entry: int = 0) -> None:
        """Name the check that failed, as the message does, and the entry at fault; 0 where there is none."""
        super().__init__(message)
        self.check, self.entry = check, entry


class RunFailed(HanseError):
    """A run could not be completed, through no fault of its input; its state is kept."""

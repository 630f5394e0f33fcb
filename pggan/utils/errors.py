"""What a person can do wrong. Every message is one line and says the mend."""

from __future__ import annotations


class PgganError(Exception):
    """A failure that a person can cause and mend; the command line prints its message and exits 1."""

    exit_code = 1

    def __str__(self) -> str:
        """One line, whatever the names in it hold: control characters are shown as escapes."""
        return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in super().__str__())


class UsageError(PgganError):
    """A request that makes no sense as it was written (an option, a combination); exits 2."""

    exit_code = 2


class DataError(PgganError):
    """Pictures or a data store that are missing, damaged or unfit."""


class ModelError(PgganError):
    """A model file or run that is missing, damaged, foreign or of another version."""


class OutOfMemoryError(ModelError):
    """Pictures that the memory has no room for, as many at a time as were asked for."""


class TrainingError(PgganError):
    """A training run that cannot start or go on."""

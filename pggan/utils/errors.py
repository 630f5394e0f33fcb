"""Errors that a user can cause. Every message is one line and says how to fix the problem."""

from __future__ import annotations

from pggan.utils.formatting import printable

_END_CHARACTERS = 700  # that are shown of either end of a long message


class PgganError(Exception):
    """An error that a user can cause and fix; the command line prints its message and exits with 1."""

    exit_code = 1

    def __str__(self) -> str:
        """Returns the message, bounded, with control characters escaped: file names cannot break the line."""
        text = super().__str__()
        if len(text) > 2 * _END_CHARACTERS:  # the advice stands at the end
            text = f"{text[:_END_CHARACTERS]} ... {text[-_END_CHARACTERS:]}"
        return printable(text)


class UsageError(PgganError):
    """An invalid option or combination of options; the command line exits with 2."""

    exit_code = 2


class DataError(PgganError):
    """Images or a data store that are missing, damaged or unsuitable."""


class ModelError(PgganError):
    """A model file or run that is missing, damaged, of another program or of another version."""


class OutOfMemoryError(ModelError):
    """Images that do not fit in memory at the requested batch size."""


class TrainingError(PgganError):
    """A training run that cannot start or continue."""

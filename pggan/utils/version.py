"""The version of pggan, which files record; `pyproject.toml` reads it from here."""

__version__ = "0.2.0"

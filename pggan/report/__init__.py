"""A run as one self-contained HTML page (torch-free): what is in its directory, gathered, drawn and written."""

from __future__ import annotations

from pggan.report.page import Report, write_report

__all__ = ["Report", "write_report"]

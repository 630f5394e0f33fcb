"""The training report: a run as one self-contained HTML page (torch-free)."""

from __future__ import annotations

from pggan.report.page import Report, write_report

__all__ = ["Report", "write_report"]

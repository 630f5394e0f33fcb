"""`pggan report`: a run as one HTML page."""

from __future__ import annotations

from pathlib import Path

import cloup

from pggan.cli.options import FilePath, Output, json_option
from pggan.utils.errors import UsageError
from pggan.utils.formatting import size


@cloup.command("report")
@cloup.argument("run", type=FilePath(path_type=Path))
@cloup.option_group(
    "Output",
    cloup.option("--out", type=FilePath(path_type=Path), show_default="RUN/report.html", help="HTML file to write."),
    json_option,
)
def command(run: Path, out: Path | None, as_json: bool) -> None:
    """Write a run as one HTML page with curves and samples.

    RUN is a run directory; the run may be unfinished. The page shows curves, samples through time, phases, models,
    options and the machine. It holds everything that it shows: it needs no server and loads nothing from outside.
    """
    from pggan import api

    if out is not None and out.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"--out {out}: a report is an .html file")
    report = api.report(run, out)
    Output(as_json).result(report.to_json(), f"{report.path} ({size(report.bytes)})")

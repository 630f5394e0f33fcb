"""Prepares a store of CelebA-HQ: `python tools/prepare_celebahq.py SOURCE DEST`, on top of `pggan prepare-data`.

SOURCE is a folder, zip or tar of CelebA-HQ's 30,000 pictures of 1024x1024 (`00000.png`, `imgHQ00000.png`, `0.jpg`...),
taken in natural order. Unlike `pggan prepare-data`, nothing is cropped, enlarged or left out: a picture that is damaged
or of another size is an error, so that the store is the whole set or none.
"""

from __future__ import annotations

import argparse
import os
import sys

from pggan.cli.progress_bar import progress
from pggan.data.prepare.prepare import PrepareOptions, PrepareReport, prepare
from pggan.data.sources import open_source
from pggan.utils.errors import DataError, PgganError
from pggan.utils.formatting import duration, size

COUNT, RESOLUTION = 30_000, 1024


def convert(source: str, dest: str, count: int, options: PrepareOptions, quiet: bool = False) -> PrepareReport:
    """Prepares the store. Raises `DataError` unless the source has `count` intact, square, large enough images."""
    available = len(open_source(source))
    if available != count:
        raise DataError(
            f"{source} holds {available} pictures, CelebA-HQ has {count}; give --count {available} if that is right"
        )
    with progress("CelebA-HQ", available, quiet=quiet) as advance:
        return prepare(source, dest, options, on_progress=advance)


def main(args: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source")
    parser.add_argument("dest")
    parser.add_argument("--count", type=int, default=COUNT, help=f"pictures that must be there (default {COUNT})")
    parser.add_argument("--max-res", type=int, default=RESOLUTION, help=f"default {RESOLUTION}")
    parser.add_argument("--codec", help="as in pggan prepare-data")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--overwrite", action="store_true")
    parser.add_argument("--quiet", action="store_true")
    arguments = parser.parse_args(args)
    try:
        options = PrepareOptions(
            max_res=arguments.max_res, codec=arguments.codec, fit="reject", whole=True, workers=arguments.workers,
            overwrite=arguments.overwrite,
        )  # fmt: skip
        report = convert(arguments.source, arguments.dest, arguments.count, options, arguments.quiet)
    except (PgganError, OSError) as error:
        print(f"prepare_celebahq: error: {error}", file=sys.stderr)
        return error.exit_code if isinstance(error, PgganError) else 1
    except KeyboardInterrupt:
        print("prepare_celebahq: error: interrupted", file=sys.stderr)
        return 130
    print(f"{report.path}: {report.count} pictures, {size(report.bytes_on_disk)}, made in {duration(report.seconds)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

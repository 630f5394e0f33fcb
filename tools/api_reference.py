"""Writes the library's reference from its docstrings, with pdoc; a warning of pdoc's is a failure.

python tools/api_reference.py [--out FOLDER]
"""

import argparse
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# The public names alone are shown: modules are private. What is imported on first use is imported before pdoc looks.
CODE = """
import sys
import pggan.api, pggan.report
from pdoc.__main__ import cli
vars(pggan).update({name: getattr(pggan, name) for name in pggan.__all__})
pggan.report = pggan.api.report
cli()
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "api")
    out = parser.parse_args().out
    if subprocess.call([sys.executable, "-c", "import pdoc"], stderr=subprocess.DEVNULL):
        sys.exit("error: the reference needs pdoc: pip install 'pggan[docs]'")
    arguments = ["--docformat", "google", "--output-directory", str(out), "pggan", "!pggan."]
    command = [sys.executable, "-c", CODE, *arguments]
    done = subprocess.run(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, check=False)
    sys.stderr.write(done.stderr)
    if done.returncode or "Warn" in done.stderr:
        sys.exit("error: the docstrings above need mending")
    print(out / "pggan.html")


if __name__ == "__main__":
    main()

"""Lint, types, the reference and tests, in the project's own environment.

python3 tools/check.py [--fast | --all] [options for pytest, as -k merge]

Without an option it leaves the tests out that are marked slow; --fast also those marked long; --all runs every test.
"""

import subprocess
import sys

import environment

SELECTIONS = {"--fast": "not slow and not long", "--all": "", "": "not slow"}


def pytest_options(arguments):
    """The arguments for pytest: the selection by marks, unless they hold one of their own."""
    selection = next((argument for argument in arguments if argument in ("--fast", "--all")), "")
    options = [argument for argument in arguments if argument != selection]
    marks = SELECTIONS[selection]
    return ["-m", marks, *options] if marks and "-m" not in options else options


def main():
    python = environment.ensure("test")
    lint = [
        ["ruff", "check", "."],
        ["ruff", "format", "--check", "--quiet", "."],
        ["mypy"],
        ["tools/api_reference.py"],
    ]
    failed = []
    for command in lint:
        print("$ " + " ".join(command), flush=True)
        how = [] if command[0].endswith(".py") else ["-m"]
        if subprocess.call([python, *how, *command], cwd=environment.ROOT):
            failed.append(command[0])
    # pytest comes last, so that its summary closes the output
    pytest = [python, "-m", "pytest", "-n", "auto", "--dist", "worksteal"]
    tests = subprocess.call([*pytest, *pytest_options(sys.argv[1:])], cwd=environment.ROOT)
    if failed:
        sys.stderr.write("error: " + " and ".join(failed) + " found faults (above)\n")
    sys.exit(tests or bool(failed))


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)

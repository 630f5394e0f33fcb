"""Lint, types and tests, in the project's own environment.

python3 tools/check.py [options for pytest, as -m 'not slow']
"""

import subprocess
import sys

import environment


def main():
    python = environment.ensure("test")
    lint = [["ruff", "check", "."], ["ruff", "format", "--check", "--quiet", "."], ["mypy"]]
    failed = []
    for command in lint:
        print("$ " + " ".join(command), flush=True)
        if subprocess.call([python, "-m", *command], cwd=environment.ROOT):
            failed.append(command[0])
    # pytest comes last, so that its summary closes the output
    tests = subprocess.call([python, "-m", "pytest", "-n", "auto", *sys.argv[1:]], cwd=environment.ROOT)
    if failed:
        sys.stderr.write("error: " + " and ".join(failed) + " found faults (above)\n")
    sys.exit(tests or bool(failed))


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)

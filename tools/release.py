"""Makes a release: sdist and wheel, checked as files, then installed without extras and used, on each Python at hand.

    python tools/release.py                       # into dist/
    python tools/release.py --pythons 3.10,3.13   # these only; none: check the files alone

It uploads nothing: that is one more command, which it prints.
"""

import argparse
import email.message
import email.parser
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VERSIONS = ("3.10", "3.11", "3.12", "3.13", "3.14")
# Fields without which an index refuses a file, or shows a page that says nothing.
FIELDS = ("Metadata-Version", "Name", "Version", "Summary", "License-Expression", "Requires-Python", "Keywords")
# What must work with nothing but the wheel: arguments of pggan, in an empty folder.
COMMANDS = (
    ["--version"],
    ["doctor"],
    ["generate", "--n", "2", "--out", "new", "--device", "cpu"],
    ["prepare-data", "drawn:8", "data", "--max-res", "8"],
    ["verify-data", "data"],
)


def fail(message):
    sys.exit(f"error: {message}")


def build(out):
    """Builds the source distribution, and the wheel from it; returns both."""
    out.mkdir(parents=True, exist_ok=True)
    for old in [*out.glob("pggan-*.whl"), *out.glob("pggan-*.tar.gz")]:
        old.unlink()
    if subprocess.call([sys.executable, "-m", "build", "--outdir", str(out), str(ROOT)], stdout=subprocess.DEVNULL):
        fail("the build failed (above); it needs: pip install build")
    return next(out.glob("pggan-*.tar.gz")), next(out.glob("pggan-*.whl"))


def metadata_of(file):
    """Returns the metadata of a wheel or of a source distribution."""
    if file.suffix == ".whl":
        with zipfile.ZipFile(file) as wheel:
            content = wheel.read(next(name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")))
    else:
        with tarfile.open(file) as archive:
            member = next(name for name in archive.getnames() if re.fullmatch(r"[^/]+/PKG-INFO", name))
            content = archive.extractfile(member).read()
    return email.parser.BytesParser().parsebytes(content)


def check_metadata(metadata: email.message.Message, name):
    """Refuses what an index would refuse, or show wrongly."""
    missing = [field for field in FIELDS if not metadata[field]]
    if missing:
        fail(f"{name}: the metadata lack {', '.join(missing)}")
    if metadata["Description-Content-Type"] != "text/markdown" or len(metadata.get_payload()) < 1000:
        fail(f"{name}: the page on an index would not be the README")
    if not re.fullmatch(r"\d+\.\d+\.\d+((a|b|rc)\d+)?", metadata["Version"]):
        fail(f"{name}: {metadata['Version']} is no version of a release")
    direct = [line for line in metadata.get_all("Requires-Dist") if " @ " in line]
    if direct:
        fail(f"{name}: an index refuses requirements with addresses: {direct[0]}")


def tracked_files():
    """Returns the files of the repository; where there is none, as in a source distribution, those that lie here."""
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if done.returncode == 0:
        return {name for name in done.stdout.decode().split("\0") if name and (ROOT / name).exists()}
    return {str(path.relative_to(ROOT)) for path in ROOT.rglob("*") if path.is_file()}


def check_contents(sdist, wheel):
    """Refuses files that lack something of the repository, or hold something else."""
    tracked = tracked_files()
    with tarfile.open(sdist) as archive:
        packed = {name.partition("/")[2] for name in archive.getnames()} - {"", "PKG-INFO"}
    if missing := sorted(name for name in tracked if name not in packed and not name.startswith(".")):
        fail(f"{sdist.name} lacks {', '.join(missing[:5])}")
    with zipfile.ZipFile(wheel) as archive:
        installed = {name for name in archive.namelist() if ".dist-info/" not in name}
    # pictures of the documents stay out of the wheel
    inside = [name for name in tracked if not name.endswith((".png", ".jpg"))]
    wanted = {name for name in inside if name.startswith("pggan/")}
    models = {f"pggan/_{name}" for name in inside if name.startswith("checkpoints/")}
    if missing := sorted((wanted | models) - installed):
        fail(f"{wheel.name} lacks {', '.join(missing[:5])}")
    for file, names in ((sdist, packed - tracked), (wheel, installed - wanted - models)):
        if surplus := sorted(name for name in names if not name.endswith("/")):
            fail(f"{file.name} holds what is not in the repository: {', '.join(surplus[:5])}")


def pythons(versions):
    """Returns the Pythons of these versions that this machine has, by version."""
    found = {}
    for version in versions:
        installed = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))
        for candidate in [shutil.which(f"python{version}"), *map(str, installed)]:
            code = "import sys, venv; print('%d.%d' % sys.version_info[:2])"
            done = candidate and subprocess.run([candidate, "-c", code], capture_output=True, text=True, check=False)
            if done and done.stdout.strip() == version:
                found[version] = candidate
                break
    return found


def bare_environment(python, wheel, folder):
    """Makes a virtual environment that holds the wheel and what it requires, and nothing else; returns its `pggan`."""
    subprocess.run([python, "-m", "venv", str(folder)], check=True)
    scripts = folder / ("Scripts" if os.name == "nt" else "bin")
    command = [str(scripts / "python"), "-m", "pip", "--disable-pip-version-check", "install", "--quiet", str(wheel)]
    if subprocess.call(command):
        fail(f"{wheel.name} cannot be installed by {python} (above)")
    return scripts / "pggan"


def outside_environment():
    """Returns environment variables by which nothing of this checkout is imported."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}


def try_commands(pggan, folder):
    """Runs what must work in a bare environment, in an empty folder."""
    folder.mkdir()
    for arguments in COMMANDS:
        done = subprocess.run(
            [str(pggan), *arguments], cwd=folder, env=outside_environment(), capture_output=True, text=True, check=False
        )
        if done.returncode:
            fail(f"pggan {' '.join(arguments)} failed:\n{done.stdout}{done.stderr}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "dist", help="folder of the files")
    parser.add_argument("--pythons", default=",".join(VERSIONS), help="versions to try; none: check the files alone")
    options = parser.parse_args()
    sdist, wheel = build(options.out)
    for file in (sdist, wheel):
        check_metadata(metadata_of(file), file.name)
    check_contents(sdist, wheel)
    print(f"{sdist.name} and {wheel.name} are complete", flush=True)
    versions = [] if options.pythons == "none" else options.pythons.split(",")
    present = pythons(versions)
    for version, python in present.items():
        with tempfile.TemporaryDirectory() as folder:
            try_commands(bare_environment(python, wheel, Path(folder, "bare")), Path(folder, "work"))
        print(f"Python {version}: installed without extras, and works", flush=True)
    if absent := [version for version in versions if version not in present]:
        print(f"not tried, as they are not on this machine: {', '.join(absent)}")
    print(f"to publish: twine upload {sdist} {wheel}; git tag v{metadata_of(wheel)['Version']}")


if __name__ == "__main__":
    main()

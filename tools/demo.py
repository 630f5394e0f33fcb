"""The main job, end to end: install, draw faces, prepare them, train, make new pictures and a video.

    python3 tools/demo.py [--out demo]

Everything it needs it makes: a virtual environment in .venv and the folder demo/. Run again, it goes on from
where it was. On a GPU if there is one, else on the CPU: about nine minutes on two cores after the installation.
"""

import argparse
import os
import subprocess
import sys
import time

import environment

FACES, RESOLUTION = 2000, 32


def run(python, *arguments):
    print("\n$ pggan " + " ".join(arguments), flush=True)
    status = subprocess.call([python, "-m", "pggan", *arguments])
    if status:
        sys.exit(status)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", default=os.path.join(environment.ROOT, "demo"), help="folder for everything it makes")
    out = parser.parse_args().out
    python = environment.ensure()
    start = time.time()
    shown = os.path.relpath(out)
    data, trained = os.path.join(shown, "data"), os.path.join(shown, "run")
    pictures, video = os.path.join(shown, "pictures"), os.path.join(shown, "walk.mp4")
    if not os.path.exists(os.path.join(data, "data.mdb")):
        run(python, "prepare-data", f"drawn:{FACES}", data, "--max-res", str(RESOLUTION))
    if os.path.exists(os.path.join(trained, "options.json")):
        run(python, "train", "--resume", trained)
    else:
        run(python, "train", data, "--preset", "demo", "--out", trained)
    run(python, "generate", trained, "--n", "64", "--out", pictures)
    run(python, "interpolate", trained, "--out", video, "--grid", "4x3", "--seconds", "8")
    minutes, seconds = divmod(int(time.time() - start), 60)
    print(f"\ndone in {minutes}:{seconds:02d} after the installation")
    print("  new faces:    " + os.path.join(pictures, "grid.png") + " and one PNG each beside it")
    print("  a video:      " + video)
    print("  the training: " + os.path.join(trained, "samples") + " (the same latents through time)")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)

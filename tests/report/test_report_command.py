import json
import subprocess
import sys

import pytest

from pggan.cli import run as pggan
from tests.helpers.run_directories import make_run


def test_the_command_says_where_the_page_is(run, capsys, tmp_path):
    assert pggan(["report", str(run)]) == 0
    assert capsys.readouterr().out.startswith(f"{run / 'report.html'} (")
    out = tmp_path / "page.html"
    assert pggan(["report", str(run), "--out", str(out), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["path"] == str(out)
    assert report["bytes"] == out.stat().st_size
    assert (report["status"], report["kimg"], report["ticks"]) == ("finished", 0.12, 12)


def test_mistakes_are_one_line(tmp_path, capsys):
    for arguments, status in (([str(tmp_path)], 1), ([str(make_run(tmp_path / "r")), "--out", str(tmp_path)], 2)):
        assert pggan(["report", *arguments]) == status
        assert len(capsys.readouterr().err.strip().splitlines()) == 1


@pytest.mark.long
def test_the_command_needs_no_torch(run):
    code = (
        "import sys; from pggan.cli import run; status = run(sys.argv[1:]);"
        "assert 'torch' not in sys.modules; sys.exit(status)"
    )
    subprocess.run([sys.executable, "-c", code, "report", str(run)], check=True, capture_output=True)

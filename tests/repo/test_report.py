"""tools/check_report.py: a run counts only if every test ran and passed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def closing_line(tmp_path: Path, body: str) -> subprocess.CompletedProcess[str]:
    """Run a test module of its own and check its report."""
    (tmp_path / "test_it.py").write_text(f"import pytest\n{body}\n")
    report = tmp_path / "report.xml"
    run = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-c",
        "/dev/null",
        "--rootdir",
        str(tmp_path),
    ]
    subprocess.run([*run, f"--junitxml={report}", tmp_path], capture_output=True, timeout=60, check=False)
    check = [sys.executable, str(ROOT / "tools/check_report.py"), str(report)]
    return subprocess.run(check, capture_output=True, text=True, timeout=60, check=False)


def test_a_clean_run_is_counted(tmp_path: Path) -> None:
    """Two tests that pass give the closing line and success."""
    ended = closing_line(tmp_path, "def test_a(): pass\ndef test_b(): pass")
    assert (ended.returncode, ended.stdout) == (0, "2 passed, 0 failed, 0 skipped\n")


@pytest.mark.parametrize(
    "body",
    [
        "def test_a(): pytest.skip('no')",
        "@pytest.mark.skipif(True, reason='no')\ndef test_a(): pass",
        "@pytest.mark.xfail\ndef test_a(): assert False",
        "def test_a(): assert False",
        "@pytest.fixture\ndef broken(): raise OSError\ndef test_a(broken): pass",
        "pytest.importorskip('there_is_no_such_module')",
    ],
    ids=["skip", "skipif", "xfail", "failure", "error", "importorskip"],
)
def test_a_test_that_did_not_run_or_pass_fails_the_run(tmp_path: Path, body: str) -> None:
    """Skipped, expected to fail, failed, broken: each fails the run by name, also beside one that passed."""
    ended = closing_line(tmp_path, f"{body}\ndef test_fine(): pass")
    assert ended.returncode != 0
    assert "test_" in ended.stderr or "no test ran" in ended.stderr


@pytest.mark.parametrize(("second", "code"), [("def test_b(): pass", 0), ("def test_b(): assert False", 1), ("", 0)])
def test_the_reports_of_one_run_count_together(tmp_path: Path, second: str, code: int) -> None:
    """What fails in any of them fails the run; one without tests is made good by the other."""
    reports = []
    for name, body in (("one", "def test_a(): pass"), ("two", second)):
        (tmp_path / name).mkdir()
        closing_line(tmp_path / name, body)
        reports.append(tmp_path / name / "report.xml")
    check = [sys.executable, str(ROOT / "tools/check_report.py"), *map(str, reports)]
    assert subprocess.run(check, capture_output=True, timeout=60, check=False).returncode == code


def test_a_run_without_tests_fails(tmp_path: Path) -> None:
    """Nothing ran is not success."""
    ended = closing_line(tmp_path, "")
    assert (ended.returncode, ended.stderr) == (1, "no test ran\n")

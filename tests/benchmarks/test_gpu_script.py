"""``gpu.sh``, rehearsed on a CPU: stages that go on, refuse in words and leave results."""

import os
import subprocess
import sys

import pytest
from shared.runner import read_rows
from toys import BENCHMARKS, root

for name in ("matplotlib", "scipy"):  # of the report
    pytest.importorskip(name)
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="gpu.sh is for Linux")


def run(out, *stages, **more):
    command = ["bash", str(BENCHMARKS / "gpu.sh"), "--toy", str(out), *stages]
    environment = os.environ | {"DEVICE": "cpu", "PYTHON": sys.executable, "JOBS": "1"} | more
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    return done.returncode, done.stdout + done.stderr


def test_a_stage_that_cannot_be_made_says_why(tmp_path):
    for stage, said in (("accuracy", "run the stage pack first"), ("pack", "DATA names no folder that has cifar10/")):
        code, output = run(tmp_path / "out", stage, DATA=str(tmp_path / "nowhere"))
        assert code == 1
        assert said in output
    assert run(tmp_path / "out", "fit")[0] == 2
    assert not (tmp_path / "out" / "results" / "done.txt").exists()


def test_stages_leave_their_results_are_not_made_twice_and_the_report_is_made_of_them(root, tmp_path):
    out = tmp_path / "out"
    code, output = run(out, "pack", "tests", "speed", "accuracy", "report", DATA=str(root))
    assert code == 0, output
    results = out / "results"
    assert (results / "tests.txt").read_text() == "passed tests/test_cuda.py\n"
    rows = read_rows(results / "accuracy.jsonl")
    assert [row["method"].partition(":")[0] for row in rows] == ["none", "glico", "autoaugment"]
    assert all(row["batched"] and row["steps"] == 30 for row in rows)
    assert {row["part"] for row in read_rows(results / "speed.jsonl")} == {"batch"}
    assert "| fit step | CPU | float32 | 4 | 10 |" in (out / "copy" / "benchmarks" / "SPEED.md").read_text()
    code, output = run(out, "pack", "tests", "speed", "accuracy")
    assert (code, output.count(": done, as ")) == (0, 4)
    code, output = run(out, "small", MINUTES="0")
    assert code == 75
    assert "the same command goes on" in output

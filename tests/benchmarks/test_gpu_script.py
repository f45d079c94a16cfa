"""``gpu.sh`` with a Python that only notes its commands, which are then run in this process."""

import os
import runpy
import subprocess
import sys
from pathlib import Path

import measure_accuracy
import pytest
from shared.runner import read_rows
from toys import BENCHMARKS, root

for name in ("matplotlib", "scipy"):  # of the report
    pytest.importorskip(name)
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="gpu.sh is for Linux")


@pytest.fixture
def gpu(tmp_path):
    """From stages and environment to status, what is said and the commands that were given to Python."""
    log, python = tmp_path / "log", tmp_path / "python"
    python.write_text(f"#!/bin/sh\nprintf '%s\\037' \"$@\" >> {log}; echo >> {log}; exit ${{STATUS:-0}}\n")
    python.chmod(0o755)

    def run(*stages, toy=True, **more):
        log.write_text("")
        command = ["bash", str(BENCHMARKS / "gpu.sh"), *["--toy"] * toy, str(tmp_path / "out"), *stages]
        environment = os.environ | {"DEVICE": "cpu", "PYTHON": str(python), "JOBS": "1"} | more
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100)
        return done.returncode, done.stderr, [line.split("\037")[:-1] for line in log.read_text().splitlines()]

    return run


def test_a_stage_that_cannot_be_made_says_why_and_is_not_done(gpu, tmp_path):
    for stage, said in (("accuracy", "run the stage pack first"), ("pack", "DATA names no folder that has cifar10/")):
        code, output, _ = gpu(stage, DATA=str(tmp_path / "nowhere"))
        assert code == 1
        assert said in output
    assert gpu("fit")[0] == 2
    code, output, commands = gpu("speed", MINUTES="0")
    assert (code, commands) == (75, [])
    assert "the same command goes on" in output
    assert gpu("speed", STATUS="75")[0] == 75
    code, output, _ = gpu("tests", STATUS="1")
    assert code == 1
    assert "tests: see " in output
    assert not (tmp_path / "out" / "results" / "done.txt").exists()


def test_stages_leave_their_results_are_not_made_twice_and_the_report_is_made_of_them(gpu, root, tmp_path, monkeypatch):
    results = tmp_path / "out" / "results"
    for stage in ("pack", "tests", "speed", "small", "accuracy", "report"):
        code, output, commands = gpu(stage, DATA=str(root))
        assert code == 0, output
        for script, *options in commands:
            if script != "-m":
                monkeypatch.setattr(sys, "argv", [script, *options])
                runpy.run_path(str(BENCHMARKS.parent / script), run_name="__main__")
    assert (results / "tests.txt").exists()
    rows = read_rows(results / "accuracy.jsonl")
    assert [row["method"].partition(":")[0] for row in rows] == ["none", "glico", "autoaugment"]
    assert all(row["batched"] and row["steps"] == 3 for row in rows)
    assert [row["method"] for row in read_rows(results / "accuracy_gpu.jsonl")] == ["none", "style"]
    copy = tmp_path / "out" / "copy" / "benchmarks"
    assert "| fit step | CPU | float32 | 4 | 10 |" in (copy / "SPEED.md").read_text()
    assert len(read_rows(copy / "results" / "accuracy.jsonl")) == 3 + len(
        read_rows(BENCHMARKS / "results" / "accuracy.jsonl")
    )
    code, output, commands = gpu("pack", "tests", "speed", "small", "accuracy")
    assert (code, output.count(": done, as "), commands) == (0, 5, [])


def test_the_grids_of_a_whole_run_are_settings_and_methods(gpu, tmp_path, monkeypatch):
    data = tmp_path / "out" / "data" / "cifar10.zip"
    data.parent.mkdir(parents=True)
    data.write_bytes(b"")
    _, _, commands = gpu("small", "accuracy", toy=False)
    assert [Path(script).name for script, *_ in commands] == ["measure_accuracy.py"] * 7
    planned = []
    monkeypatch.setattr(measure_accuracy, "run", lambda args, units, measure: planned.append(units))
    for script, *options in commands:
        monkeypatch.setattr(sys, "argv", [script, *options])
        measure_accuracy.main()
    assert {unit["data"] for unit in planned[0]} == {"cifar10", "signs", "omniglot", "mnist", "digits"}
    assert {(unit["depth"], unit["width"]) for units in planned[1:] for unit in units} == {(16, 8), (28, 10)}

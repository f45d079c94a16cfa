"""The runner: what is measured once, what stops it, and what a row says."""

import argparse
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from shared.runner import UNFINISHED, append_row, arguments, parse_name, read_rows, run


@pytest.fixture
def args(tmp_path):
    deadline = time.monotonic() + 1000
    return argparse.Namespace(out=tmp_path / "rows.jsonl", device="cpu", threads=1, jobs=1, deadline=deadline)


UNITS = [{"what": name, "seed": seed} for seed in (0, 1) for name in "ab"]


def figures(args, unit):
    return {"figure": len(unit["what"]) + unit["seed"]}


def test_a_unit_is_measured_once_whoever_asks_again(args, capsys):
    run(args, [*UNITS[:2], *UNITS[:1]], figures)
    run(args, UNITS, figures)
    assert "2 of 4 to measure" in capsys.readouterr().err
    rows = read_rows(args.out)
    assert [row["figure"] for row in rows] == [1, 1, 2, 2]
    assert [{name: row[name] for name in ("what", "seed")} for row in rows] == UNITS
    assert {"machine", "torch", "python", "glico_augment", "command", "threads"} <= rows[0].keys()


def test_of_several_at_once_one_that_fails_leaves_the_others(args, monkeypatch):
    def failing(args, unit):
        return {} if unit["seed"] else 1 / 0

    monkeypatch.setattr("shared.runner.ProcessPoolExecutor", lambda jobs, mp_context: ThreadPoolExecutor(jobs))
    args.jobs = 2
    with pytest.raises(RuntimeError, match="2 of 4 failed"):
        run(args, UNITS, failing)
    assert sorted(row["what"] for row in read_rows(args.out)) == ["a", "b"]


def test_what_the_time_does_not_reach_is_left_with_a_status(args):
    def slow(args, unit):
        args.deadline = float("-inf")
        return figures(args, unit)

    with pytest.raises(SystemExit) as stopped:
        run(args, UNITS, slow)
    assert stopped.value.code == UNFINISHED
    assert len(read_rows(args.out)) == 1
    args.deadline = float("inf")
    with pytest.raises(SystemExit):  # a training that was not over
        run(args, UNITS, lambda args, unit: None)
    assert len(read_rows(args.out)) == 1


def test_a_row_from_before_a_field_is_of_what_held_then(args):
    append_row(args.out, UNITS[0])
    run(args, [UNITS[0] | {"dropout": 0.0, "batched": False, "device": "cpu"}], figures)
    assert len(read_rows(args.out)) == 1
    run(args, [UNITS[0] | {"dropout": 0.3}], figures)
    assert len(read_rows(args.out)) == 2


def test_options_take_their_types_from_their_defaults(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "argv", ["a.py", "--out", str(tmp_path), "--sides", "3", "4", "--is-far", "--rate", "0.5"])
    options = {"sides": ([int], ""), "rate": (1.0, ""), "names": (["a"], ""), "limit": (int, ""), "is_far": (False, "")}
    args = arguments("", has_data=False, **options)
    assert (args.sides, args.rate, args.names, args.limit, args.is_far) == ([3, 4], 0.5, ["a"], None, True)
    assert args.deadline == float("inf")
    monkeypatch.setattr(sys, "argv", ["a.py", "--out", str(tmp_path)])
    with pytest.raises(SystemExit):
        arguments("")  # without data


def test_fields_are_json_or_text():
    assert parse_name("a:b=1,d=x") == ("a", {"b": 1, "d": "x"})
    with pytest.raises(ValueError, match="expected field=value, got 'b'"):
        parse_name("a:b")

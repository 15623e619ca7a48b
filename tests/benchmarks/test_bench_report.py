from __future__ import annotations

import datetime
import json
import math
import os
import platform
import subprocess
import sys
from dataclasses import replace

import pytest

from benchmarks.__main__ import chosen_contests, main, make_parser
from benchmarks.contests import CONTESTS
from benchmarks.goals import JUDGED, Goal, judged_row, rms
from benchmarks.machine import CHECKOUT, commit, describe_machine
from benchmarks.report import ContestResult, Results, default_path, read, save, to_json
from benchmarks.tables import STANDING, Column, Table, markdown, standing_row
from benchmarks.timing import Way, race

TABLE = Table(
    "toys",
    (Column("way", "way"), Column("ms", "ms", 1)),
    [{"way": "a", "ms": 2.25, "hidden": [1.0, math.nan]}, {"way": "bb", "ms": math.inf}],
    "A note.",
)
RESULTS = Results(
    {"cpu": "Some CPU (R) 7", "cores": 2, "torch": None},
    datetime.date(2026, 11, 21),
    {"toys": ContestResult("toys against toys", [TABLE], 1.23456)},
)


def test_a_table_in_markdown():
    assert markdown(TABLE) == (
        "### toys\n\n| way |  ms |\n"
        + "|-----|----:|\n"
        + "| a   | 2.2 |\n"
        + "| bb  |   - |\n"
        + "\nA note.\n"
    )


def test_columns_of_standings_are_all_filled():
    (standing,) = race([Way("toy", lambda one: 1)], [None], clock=iter_clock().__next__)
    row = standing_row(standing, extra=3)
    assert all(column.key in row for column in STANDING)
    assert row["extra"] == 3


def iter_clock():
    now = 0.0
    while True:
        now += 1
        yield now, now


def test_json_holds_machine_and_every_value_of_a_row(tmp_path):
    path, beside = save(RESULTS, tmp_path / "new" / "toys.json")
    document = json.loads(path.read_text(encoding="utf-8"))
    assert document["machine"] == {"cpu": "Some CPU (R) 7", "cores": 2, "torch": None}
    assert (document["date"], document["schema"]) == ("2026-11-21", 1)
    (table,) = document["contests"]["toys"]["tables"]
    # What is not a number is null: JSON has no other word for it.
    assert table["rows"] == [
        {"way": "a", "ms": 2.25, "hidden": [1.0, None]},
        {"way": "bb", "ms": None},
    ]
    assert [column["heading"] for column in table["columns"]] == ["way", "ms"]
    assert document["contests"]["toys"]["size"] == "quick"
    assert document["contests"]["toys"]["seconds"] == 1.2
    assert beside == tmp_path / "new" / "toys.md"
    assert markdown(TABLE) in beside.read_text(encoding="utf-8")


def test_json_is_the_same_for_the_same_results():
    assert to_json(RESULTS) == to_json(RESULTS)


def test_a_second_run_of_the_day_keeps_the_other_contests(tmp_path):
    path, beside = save(RESULTS, tmp_path / "toys.json")
    more = ContestResult("more", [replace(TABLE, title="more toys")], 2.0, "full", "abc123")
    save(replace(RESULTS, contests={"more": more}), path)
    assert list(read(path).contests) == ["toys", "more"]
    assert "### toys" in beside.read_text(encoding="utf-8")
    assert markdown(read(path).contests["more"].tables[0]) == markdown(more.tables[0])
    assert (read(path).contests["more"].size, read(path).contests["more"].commit) == (
        "full",
        "abc123",
    )
    # A contest that ran again replaces its earlier result.
    save(replace(RESULTS, contests={"toys": more}), path)
    assert [one.about for one in read(path).contests.values()] == ["more", "more"]


@pytest.mark.parametrize(
    "other",
    [{"machine": {"cpu": "Another CPU"}}, {"date": datetime.date(2026, 11, 22)}],
    ids=["machine", "day"],
)
def test_results_of_other_conditions_are_not_mixed(tmp_path, other):
    path, _ = save(RESULTS, tmp_path / "toys.json")
    save(replace(RESULTS, contests={"more": RESULTS.contests["toys"]}, **other), path)
    assert list(read(path).contests) == ["more"]


def test_a_changing_load_is_no_other_machine(tmp_path):
    busy = replace(RESULTS, machine={**RESULTS.machine, "load_before": [3.0, 2.0, 1.0]})
    path, _ = save(busy, tmp_path / "toys.json")
    save(replace(RESULTS, contests={"more": RESULTS.contests["toys"]}), path)
    assert list(read(path).contests) == ["toys", "more"]


def test_results_are_named_after_processor_and_date():
    assert default_path(RESULTS).name == "some-cpu-r-7-2026-11-21.json"


def test_the_machine_is_described_without_host_or_user():
    machine = describe_machine()
    assert machine["cpu"]
    assert machine["cores"] >= 1
    assert machine["python"] == platform.python_version()
    words = json.dumps(machine).replace('"', " ").replace(",", " ").split()
    assert platform.node() not in words
    assert os.environ.get("USER", "nobody at all") not in words


def test_commit_of_a_checkout(tmp_path):
    assert commit(tmp_path) is None
    options = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    (tmp_path / "mer_prep").mkdir()
    file = tmp_path / "mer_prep" / "one.py"
    file.write_text("1\n", encoding="utf-8")
    git = ["git", "-C", str(tmp_path), *options]
    subprocess.run([*git, "add", "-A"], check=True)
    subprocess.run([*git, "commit", "-qm", "one"], check=True)
    found = commit(tmp_path)
    assert found is not None
    assert len(found) == 12
    file.write_text("2\n", encoding="utf-8")
    assert commit(tmp_path) == f"{found}, changed"


def test_goals():
    goal = Goal(must=0.2, aim=0.1)
    assert [goal.verdict(one) for one in (0.1, 0.15, 0.2, 0.21, math.nan)] == [
        "aim",
        "must",
        "must",
        "missed",
        "missed",
    ]
    row = judged_row("x", [0.05, 0.1, 0.3], pooled=0.15, goal=goal)
    assert (row["median"], row["worst"], row["value"]) == (0.1, 0.3, 0.15)
    assert (row["reached"], row["worst_reached"]) == ("must", "missed")
    assert all(column.key in row for column in JUDGED)
    assert rms([3, 4]) == pytest.approx(math.sqrt(12.5))


def test_videos_add_their_contest_to_the_quick_set(tmp_path):
    parser = make_parser()
    quick = [name for name, contest in CONTESTS.items() if contest.quick]
    assert chosen_contests(parser.parse_args([])) == quick
    assert set(chosen_contests(parser.parse_args(["--videos", "a.mp4"]))) == {*quick, "video"}
    assert chosen_contests(parser.parse_args(["--only", "flow", "flow"])) == ["flow"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only", "video"], "needs --videos"),
        (["--videos", "/nowhere/a.mp4"], "there is no file"),
        (["--only", "speed"], "invalid choice"),
        (["--save", "x.md"], "ends in .json"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_runs(arguments, message, capsys):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


def test_help_names_every_contest():
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--help"],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert all(name in done.stdout for name in CONTESTS)

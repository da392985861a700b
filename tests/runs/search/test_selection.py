"""Which runs are meant: ages, sizes and their units, and what is refused before any is touched."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpctf import UsageError
from hpctf.common.units import bytes_of_size, file_size, seconds_of_age
from hpctf.runs.search.selection import Choice
from tests.support.projects import hpctf


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30d", 30 * 86400), ("12h", 43200), ("2w", 14 * 86400), ("45m", 2700), ("10s", 10),
     ("1.5h", 5400), (" 3 d ", 3 * 86400), ("0d", 0)],
)  # fmt: skip
def test_ages_have_units(text: str, seconds: float) -> None:
    assert seconds_of_age(text) == seconds


@pytest.mark.parametrize("text", ["", "30", "d", "-1d", "1e3d", "30 days", "1d12h", "nan d", "٣d"])
def test_other_ages_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is not a number with its unit") as refused:
        seconds_of_age(text)
    assert "30d" in str(refused.value.hint)


@pytest.mark.parametrize(
    ("text", "size"),
    [("5GB", 5e9), ("5G", 5e9), ("5gb", 5e9), ("5GiB", 5 * 1024**3), ("1.5 TB", 1.5e12),
     ("500MB", 5e8), ("500kB", 5e5), ("100B", 100), ("100", 100), ("0", 0), ("1PiB", 1024**5)],
)  # fmt: skip
def test_sizes_have_units(text: str, size: float) -> None:
    assert bytes_of_size(text) == size


@pytest.mark.parametrize("text", ["", "GB", "-5GB", "5 XB", "5GBB", "5iB", "inf", "1e9", "٣GB"])
def test_other_sizes_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is not a number with its unit") as refused:
        bytes_of_size(text)
    assert "5GB" in str(refused.value.hint)


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (99_949, "99.9 kB"), (99_960, "100 kB"),
     (999_600, "1.0 MB"), (3_100_000, "3.1 MB"), (4.2e9, "4.2 GB"), (2e12, "2.0 TB"),
     (3e15, "3000.0 TB")],
)  # fmt: skip
def test_sizes_are_told_shortly(size: float, text: str) -> None:
    assert file_size(size) == text


def test_a_choice_of_nothing_is_all() -> None:
    assert Choice().all
    assert not Choice(older_than=0).all
    assert not Choice(larger_than=0).all


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["runs", "--rm"], "Nothing says which runs are meant"),
        (["runs", "--rm", "--yes"], "Nothing says which runs are meant"),
        (["archive"], "Nothing says which runs are meant"),
        (["runs", "--rm", "-n", "3", "--state", "Failed"], "--rm removes all that are meant"),
        (["runs", "--older-than", "30"], "Age '30' is not a number with its unit"),
        (["runs", "--rm", "--larger-than", "much"], "Size 'much' is not a number with its unit"),
        (["runs", "--rm", "--state", "Done"], "'Done' is not one of"),
        (["runs", "--rm", "nobodys_1"], "There is no run 'nobodys_1' under"),
        (["runs", "--rm", "@last"], "There are no runs under"),
        (["archive", "--list", "--restore", "x"], "one of them at a time"),
        (["archive", "--list", "x"], "one of them at a time"),
        (["archive", "--restore", "x"], "There is no archive of a run 'x'"),
        (["archive", "--restore", "./x.tar.gz"], "x.tar.gz' cannot be read: No such file"),
        (["du", "x"], "There is no run 'x' under"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)  # fmt: skip
def test_what_is_refused_touches_nothing(words: list[str], said: str, tmp_path: Path) -> None:
    done = hpctf(*words, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    "words", [["runs", "--rm", "--state", "Failed"], ["archive", "--experiment", "e"]]
)
def test_where_nothing_is_meant_there_is_nothing_to_ask(words: list[str], tmp_path: Path) -> None:
    done = hpctf(*words, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "")
    assert "There is nothing to" in done.stderr


def test_an_empty_root_takes_nothing(tmp_path: Path) -> None:
    done = hpctf("du", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].split() == ["total", *["0", "B"] * 7]

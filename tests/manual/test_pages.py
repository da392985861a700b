"""The documentation's pages: all of them listed, found by their names, searched, and true."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import click
import pytest

from hpctf import UsageError, errors
from hpctf.manual.generated import complete, without_objects
from hpctf.manual.pages import INDEX, entries, find_page, pages, search
from hpctf.runs.explain.symptoms import symptoms
from hpctf.site.keys import dotted, is_mapping, keys_at
from tests.conftest import ROOT
from tests.support.every_command import leaves

DOCS = ROOT / "docs"
VARIABLE = re.compile(r"(?<!\w)HPCTF_[A-Z][A-Z0-9_]*[A-Z0-9]")


def test_the_index_lists_every_page_once_by_its_title() -> None:
    listed = [entry.name for entry in entries()]
    assert sorted(listed) == sorted({*pages()} - {INDEX})
    for name, page in pages().items():
        assert page.path.read_text().startswith("# "), name


def test_the_index_of_troubleshooting_lists_its_pages_by_their_titles() -> None:
    text = (DOCS / "troubleshooting/README.md").read_text()
    listed = dict(re.findall(r"^- \[(.+)\]\(([\w-]+)\.md\)$", text, re.MULTILINE))
    assert {name: title for title, name in listed.items()} == {
        path.stem: path.read_text().partition("\n")[0].removeprefix("# ")
        for path in (DOCS / "troubleshooting").glob("*.md")
        if path.stem != INDEX
    }


@pytest.mark.parametrize(
    ("asked", "name"),
    [
        ("tuning", "tuning"),
        ("tuning.md", "tuning"),
        ("docs/tuning.md", "tuning"),
        ("tuning#early-termination", "tuning"),
        ("troubleshooting", "troubleshooting"),
        ("troubleshooting/out-of-memory", "troubleshooting/out-of-memory"),
        ("out-of-memory", "troubleshooting/out-of-memory"),
        ("", INDEX),
    ],
)
def test_a_page_is_found_by_the_names_that_people_and_messages_use(asked: str, name: str) -> None:
    assert find_page(asked).name == name


@pytest.mark.parametrize(
    ("asked", "near"), [("tunign", "tuning"), ("out-of-memry", "out-of-memory"), ("../setup", "")]
)
def test_an_unknown_page_is_refused_with_the_nearest(asked: str, near: str) -> None:
    with pytest.raises(UsageError) as refused:
        find_page(asked)
    assert near in str(refused.value) and "hpctf docs --search" in str(refused.value)


def test_a_search_finds_sections_with_all_words_the_closest_first() -> None:
    first, *_ = search("early termination")
    assert first.page.name == "tuning"
    assert search("no-such-word-anywhere early") == []


def test_every_symptom_has_a_page_and_every_page_a_symptom() -> None:
    paths = {path.stem: path for path in (DOCS / "troubleshooting").glob("*.md")}
    assert {*symptoms()} == {*paths} - {INDEX}
    for name, known in symptoms().items():
        text = complete(paths[name].read_text())
        assert "## Cause" in text and "## What to do" in text, name
        for meaning, _ in known:
            assert meaning.partition("|")[0].strip() in text, name


PUBLIC = {
    "python": "hpctf",
    "scripts": "hpctf.client.hpctf",
    "keras": "hpctf.keras",
    "azureml": "hpctf.azureml",
    "cluster-spec": "hpctf.cluster_spec",
}
"""Pages of the reference, each with the module that it is about."""


@pytest.mark.parametrize("page", PUBLIC)
def test_the_reference_lacks_no_public_name(page: str) -> None:
    text = (DOCS / f"reference/{page}.md").read_text()
    if f"\n::: {PUBLIC[page]}\n" in text:
        return  # the whole module
    shown = {*re.findall(r"^#+ (\w+)$", text, re.MULTILINE), *re.findall(r"`(\w+)`", text)}
    assert {*import_module(PUBLIC[page]).__all__} - shown == set()


def test_every_variable_of_the_code_is_in_the_reference() -> None:
    text = (DOCS / "reference/environment-variables.md").read_text()
    sources = [*(ROOT / "hpctf").rglob("*.py"), *(ROOT / "templates").iterdir()]
    used = {name for path in sources for name in VARIABLE.findall(path.read_text())}
    assert len(used) > 20
    assert used - {*VARIABLE.findall(text)} == set()


def test_every_exception_stands_beside_its_exit_code() -> None:
    text = (DOCS / "reference/exit-codes.md").read_text()
    for name, kind in vars(errors).items():
        if isinstance(kind, type) and issubclass(kind, errors.HpctfError):
            row = next(line for line in text.splitlines() if f"`{name}`" in line)
            assert row.startswith(f"| {kind.exit_code} |"), name


def test_the_command_line_reference_has_every_command_and_option() -> None:
    text = complete((DOCS / "reference/command-line.md").read_text())
    for path, command in leaves():
        _, found, section = text.partition(f"\n## hpctf {' '.join(path)}\n")
        assert found, path
        section = section.partition("\n## ")[0]
        for param in command.params:
            if isinstance(param, click.Option) and not param.hidden:
                assert param.opts[-1] in section, (path, param.opts)


def keys(path: tuple[str, ...] = ()) -> Iterator[str]:
    """Yield every key that a site file may have, with NAME for names that its author chooses."""
    for name in keys_at(path):
        yield dotted((*path, name))
        yield from keys((*path, name))
    if path and not keys_at(path) and is_mapping(path):
        yield from keys((*path, "NAME"))


def test_the_reference_of_sites_has_every_key() -> None:
    text = complete((DOCS / "reference/site-keys.md").read_text())
    wanted = {*keys()}
    assert len(wanted) > 50
    assert {key for key in wanted if f"`{key}`" not in text} == set()


def test_generated_parts_and_objects_leave_nothing_behind_in_a_terminal() -> None:
    for page in pages().values():
        text = without_objects(complete(page.text))
        assert "<!-- hpctf" not in text and "\n::: " not in text, page.name


COMMANDS = {" ".join(path): command for path, command in leaves()}


def commands_in(path: Path) -> Iterator[list[str]]:
    """Yield the words of each hpctf command in a page's blocks."""
    for block in re.findall(r"^```.*?\n(.*?)^```", path.read_text(), re.MULTILINE | re.DOTALL):
        for line in block.splitlines():
            found = re.match(r"(?:\$ )?hpctf ([a-z].*)", line)
            if found:
                yield re.split(r" #| -- |[|>]", found[1])[0].split()


def unknown_in(words: list[str]) -> list[str]:
    """Return what a command of a page has that hpctf lacks: itself, or options."""
    names = (" ".join(words[:2]), words[0], f"{words[0]} start")
    name = next((name for name in names if name in COMMANDS), None)
    if name is None:
        return [words[0]]
    params = COMMANDS[name].params
    known = {option for param in params for option in (*param.opts, *param.secondary_opts)}
    used = {word.partition("=")[0] for word in words if re.match(r"--?[a-z]", word)}
    return sorted(used - known - {"--help"})


@pytest.mark.parametrize(
    "path",
    [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_commands_in_pages_exist_with_their_options(path: Path) -> None:
    unknown = {" ".join(words): unknown_in(words) for words in commands_in(path)}
    assert {words: missing for words, missing in unknown.items() if missing} == {}


@pytest.mark.parametrize(
    "page",
    [ROOT / "README.md", DOCS / "get-started.md", *sorted((DOCS / "troubleshooting").glob("*.md"))],
    ids=lambda path: path.stem,
)
def test_options_that_a_page_names_exist(page: Path) -> None:
    """In the code of its sentences, if that is hpctf's, or nothing but an option."""
    options = [option for command in COMMANDS.values() for option in command.params]
    known = {name for option in options for name in (*option.opts, *option.secondary_opts)}
    code = re.findall(r"`((?:hpctf |--)[^`]*)`", page.read_text())
    written = " ".join(span.partition(" -- ")[0] for span in code)
    assert set(re.findall(r"(?<![\w-])--[a-z][\w-]*", written)) <= known | {"--help", "--version"}

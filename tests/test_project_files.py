"""What the repository says of itself agrees: versions, addresses, hooks, workflow, templates."""

from __future__ import annotations

import configparser
import re
from typing import Any

import pytest
import yaml

from hpctf import __version__
from hpctf.cli import COMMANDS
from tests.conftest import ROOT

ADDRESS = "https://github.com/hpctf/hpctf"


@pytest.fixture(scope="module")
def setup() -> configparser.ConfigParser:
    found = configparser.ConfigParser()
    found.read(ROOT / "setup.cfg")
    return found


def read(name: str) -> Any:
    return yaml.safe_load((ROOT / name).read_text())


def workflow() -> Any:
    return read(".github/workflows/tests.yml")["jobs"]


def test_the_workflow_runs_every_python_that_the_package_says_it_is_for(
    setup: configparser.ConfigParser,
) -> None:
    pythons = workflow()["unit"]["strategy"]["matrix"]["python"]
    classifiers = setup["metadata"]["classifiers"]
    assert re.findall(r"Python :: (3\.\d+)", classifiers) == pythons
    assert setup["options"]["python_requires"] == f">={pythons[0]}"
    run_on = (ROOT / "docs/compatibility.md").read_text().partition("| Python of hpctf itself")[2]
    said = run_on.partition("| Python that trains")[0]
    assert not [python for python in pythons if not re.search(rf"\b{python}\b(?! not)", said)]


def test_the_workflow_makes_what_the_makefile_has_with_actions_of_a_version() -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    steps = [step for job in workflow().values() for step in job["steps"]]
    made = {name for step in steps for name in re.findall(r"make (\w+)", step.get("run", ""))}
    assert {"unit", "lint"} <= made <= targets
    used = [step["uses"] for step in steps if "uses" in step]
    assert used and all(re.fullmatch(r"[\w/-]+@v\d+\.\d+\.\d+", one) for one in used)


def test_hooks_run_what_make_installs(setup: configparser.ConfigParser) -> None:
    extras = setup["options.extras_require"]
    packages = re.findall(r"^([\w-]+)", extras["test"] + extras["dev"], re.MULTILINE)
    hooks = [hook for one in read(".pre-commit-config.yaml")["repos"] for hook in one["hooks"]]
    programs = {hook["entry"].split()[0].removeprefix(".venv/bin/") for hook in hooks}
    assert programs == {"ruff", "mypy", "shellcheck"}
    assert {name.removesuffix("-py") for name in packages} >= programs
    assert {hook["language"] for hook in hooks} == {"system"}, "nothing is downloaded"


def test_a_bug_report_asks_for_what_hpctf_says_of_itself() -> None:
    form = read(".github/ISSUE_TEMPLATE/bug_report.yml")
    asked = {field["id"]: field["attributes"]["label"] for field in form["body"] if "id" in field}
    assert asked["version"] == "hpctf --version"
    assert (asked["doctor"], asked["why"]) == ("hpctf doctor", "hpctf why RUN")
    commands = [label.split()[1] for label in asked.values() if label.startswith("hpctf ")]
    assert {name for name in commands if not name.startswith("-")} <= set(COMMANDS)


def test_the_citation_and_the_packages_addresses_agree(setup: configparser.ConfigParser) -> None:
    citation = read("CITATION.cff")
    assert citation["version"] == __version__
    assert citation["license"] == setup["metadata"]["license"]
    addresses = re.findall(r"https://\S+", setup["metadata"]["project_urls"])
    assert {setup["metadata"]["url"], citation["repository-code"]} == {ADDRESS}
    assert all(one.startswith(f"{ADDRESS}/") for one in addresses)
    for path in re.findall(rf"{ADDRESS}/(?:tree|blob)/main/(\S+)", "\n".join(addresses)):
        assert (ROOT / path).exists()


def test_the_changelog_keeps_to_its_form() -> None:
    headings = re.findall(r"^##+ .*$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[0] == "## [Unreleased]"
    kinds = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    sections: list[list[str]] = []
    for heading in headings:
        if heading.startswith("## "):
            assert re.fullmatch(r"## \[(Unreleased|\d+\.\d+\.\d+)\]( - \d{4}-\d\d-\d\d)?", heading)
            sections.append([])
        else:
            sections[-1].append(heading.removeprefix("### "))
    assert all(set(section) <= kinds and len({*section}) == len(section) for section in sections)

"""``hpctf site validate``: what can come of a site, and the rules that its templates keep."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from hpctf.admin.template_rules import check_templates
from hpctf.admin.validate import Validation, validate
from hpctf.common.paths import TEMPLATES
from hpctf.site.loading import load_layers, load_site
from tests.conftest import skip_or_fail
from tests.support.projects import CLUSTER_SITE, hpctf

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def no_slurm(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A PATH without sbatch: a real one: test_validate_on_slurm."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("bash", "shellcheck", "git"):
        found = shutil.which(name)
        if found is None and name == "shellcheck":
            skip_or_fail("shellcheck is not installed")
        if found is not None:
            (programs / name).symlink_to(found)
    monkeypatch.setenv("PATH", str(programs))
    return programs


def site_file(folder: Path, text: str, **templates: str) -> Path:
    path = folder / "mine.yaml"
    path.write_text(text)
    if templates:
        (folder / "templates").mkdir()
        for name, template in templates.items():
            (folder / "templates" / f"{name}.sbatch.j2").write_text(template)
    return path


def validated(path: Path | str) -> Validation:
    return validate(load_site(path), load_layers(path))


def told(folder: Path, **templates: str) -> list[str]:
    """Return the problems of a site with these templates, without their folder."""
    path = site_file(folder, "name: mine\ntemplates: templates\n", **templates)
    return [one.replace(f"{folder}/templates/", "") for one in validated(path).problems]


@pytest.mark.parametrize("site", ["slurm", "slurm-mpirun", "local", CLUSTER_SITE], ids=str)
def test_good_sites_are_found_good(site: Any) -> None:
    found = validated(site)
    assert found.problems == []
    assert found.warnings == []
    for case in found.cases:
        needs_mpirun = site == "local" and case.backend.startswith("mpi")  # it may not be here
        assert set(case.looks.values()) == {"ok"} or needs_mpirun


def test_every_backend_is_looked_at_on_every_target() -> None:
    found = validated(CLUSTER_SITE)
    ways = ["single", "mpi (srun)", "ps (hetjob)", "ps (shared)", "collective", "single (array)"]
    assert [(case.target, case.backend) for case in found.cases] == [
        (target, way) for target in ("gpu", "cpu", "small") for way in ways
    ]
    assert all(set(case.looks) == {"script", "bash", "shellcheck"} for case in found.cases)


def test_our_own_templates_keep_the_rules(tmp_path: Path) -> None:
    problems = [str(one) for told in check_templates(TEMPLATES).values() for one in told]
    assert [one for one in problems if "no template extends or includes" not in one] == []


def test_what_a_target_is_too_small_for_is_no_error(tmp_path: Path) -> None:
    path = site_file(tmp_path, "name: a\ntargets: {default: {slots: 1, max_nodes: 1}}\n")
    found = validated(path)
    shared = next(case for case in found.cases if case.backend == "ps (shared)")
    assert found.problems == []
    assert shared.looks == {"script": "skipped"} and "1 slots = 1" in shared.note


def test_shell_lines_that_bash_does_not_take_are_named_with_their_line(tmp_path: Path) -> None:
    path = site_file(tmp_path, "name: a\nprologue:\n  - ulimit -c 0\n  - if true; then\n")
    (problem,) = validated(path).problems
    assert problem.startswith(f"{path}:4: prologue: bash: syntax error"), problem
    path = site_file(tmp_path, "name: a\nepilogue:\n  - sync\n  - cd $X/*; rm -rf $Y)\n")
    (problem,) = validated(path).problems
    assert problem.startswith(f"{path}:4: epilogue: bash: syntax error"), problem


def test_shell_lines_that_shellcheck_warns_of_are_named_with_their_line(tmp_path: Path) -> None:
    path = site_file(
        tmp_path, "name: a\nprologue:\n  - ulimit -c 0\n  - 'cd /x && [ $a == $b* ]'\n"
    )
    problems = validated(path).problems
    assert problems and all(one.startswith(f"{path}:4: prologue: shellcheck: ") for one in problems)
    path = site_file(tmp_path, "name: a\nprologue:\n  - cd /scratch\n")
    found = validated(path)
    assert found.problems == []  # no error: it is only told
    (warning,) = found.warnings
    assert warning.startswith(f"{path}:3: prologue: shellcheck: Use 'cd ... || exit'")


GOOD = [
    '{% extends "hpctf/mpi.sbatch.j2" %}\n'
    "{% block prologue %}\n{{ super() }}\nexport UCX_TLS=rc,self,sm\n{% endblock %}\n",
    '{% extends "hpctf/mpi.sbatch.j2" %}\n{% block prologue %}\n'
    "{% for line in plan.launch.prologue %}\n{{ line | raw }}\n{% endfor %}\n"
    '{{ plan.launch.prologue | join("\\n") | raw }}\n'
    '{% set extra = "it is" if plan.tasks > 1 else "no" %}\n# it\'s {{ plan.run_id }}\n'
    'echo "a \\" b" {{ plan.site }}\'c\' {{ "--x" | raw }} {{ extra }}\n'
    "{% block ours %}{% endblock %}\n{% endblock %}\n",
    '{% extends "hpctf/mpi.sbatch.j2" %}\n{% set me = plan.site %}\n'
    '{% block launch %}\nsrun {{ srun_options(plan.components[0]) }} {{ program }} rank "$run"\n'
    "echo {{ me }}\n{% endblock %}\n",
]


@pytest.mark.parametrize("template", GOOD)
def test_good_templates_are_found_good(tmp_path: Path, template: str) -> None:
    assert told(tmp_path, mpi=template) == []


EXTENDS = '{% extends "hpctf/mpi.sbatch.j2" %}\n'


def in_prologue(text: str) -> str:
    return f"{EXTENDS}{{% block prologue %}}\n{text}\n{{% endblock %}}\n"


@pytest.mark.parametrize(
    ("template", "words"),
    [
        (in_prologue("cd {{ plan.run_folder | raw }}"), "3: '| raw' leaves a value unquoted"),
        (in_prologue("cd {{ plan.run_folder | safe }}"), "3: '| safe' leaves a value unquoted"),
        (in_prologue("cd {{ plan.run_folder | e }}"), "3: '| e' leaves a value unquoted"),
        (in_prologue("x={{ plan.entry.environment | tojson }}"), "3: '| tojson' leaves"),
        (
            in_prologue("{% for m in plan.launch.modules %}{{ m | raw }}{% endfor %}"),
            "3: '| raw' leaves a value unquoted",
        ),
        (
            in_prologue("{% set x = plan.site %}\n{{ x | raw }}"),
            "4: '| raw' leaves a value unquoted",
        ),
        (
            in_prologue('{{ ("-x=" | raw) ~ plan.site }}'),
            "3: text that stands as it is and a value",
        ),
        (in_prologue("{{ program ~ plan.site }}"), "3: text that stands as it is and a value"),
        (
            in_prologue("{% autoescape false %}{{ plan.site }}{% endautoescape %}"),
            "3: autoescape must stay on",
        ),
        (in_prologue("echo 'in {{ plan.site }}'"), "3: a value stands within quotes"),
        (in_prologue('export A="{{ plan.site }}"'), "3: a value stands within quotes"),
        (in_prologue('#SBATCH --comment="{{ plan.site }}"'), "3: a value stands within quotes"),
        (in_prologue("{{ colour }}"), "3: the name 'colour' is not defined"),
        (in_prologue("{{ paln.site }}"), "3: the name 'paln' is not defined. Did you mean 'plan'?"),
        (
            in_prologue("{% if plan.tasks > 99 %}{{ plan.sit }}{% endif %}"),
            "3: plan has no attribute 'sit'. Did you mean 'site'?",
        ),
        (in_prologue("{{ plan.launch.module }}"), "3: plan.launch has no attribute 'module'"),
        (in_prologue("{{ plan.site | uper }}"), "3: No filter named 'uper'"),
        (in_prologue("{% if %}"), "3: Expected an expression"),
        (
            f"{EXTENDS}{{% block prolog %}}module purge\n{{% endblock %}}\n",
            "2: there is no block 'prolog' in what this template extends, so it would never be "
            "rendered. Did you mean 'prologue'? Known blocks: directives, epilogue, ",
        ),
        ('\n{% extends "hpctf/base.sbatch.j2" %}\n', "2: block 'launch' is missing"),
        (
            '{% extends "hpctf/mpi.sbtach.j2" %}\n',
            "1: there is no template 'hpctf/mpi.sbtach.j2'. Did you mean 'hpctf/mpi.sbatch.j2'?",
        ),
        ('{% extends "mpi.sbatch.j2" %}\n', '1: the template extends itself. Say "hpctf/mpi.sb'),
    ],
)
def test_a_template_that_breaks_a_rule_is_named_with_its_line(
    tmp_path: Path, no_slurm: Path, template: str, words: str
) -> None:
    (no_slurm / "shellcheck").unlink()  # it has nothing to add, and takes most of the time
    problems = told(tmp_path, mpi=template)
    assert problems and problems[0].startswith(f"mpi.sbatch.j2:{words}"), problems
    assert len(problems) == 1  # rendering has met most of them too


def test_every_problem_of_every_template_is_told_at_once(tmp_path: Path) -> None:
    problems = told(
        tmp_path,
        mpi=in_prologue("{{ colour }}\ncd {{ plan.run_folder | raw }}")
        + "{% block x %}{% endblock %}",
        single='{% extends "ours.sbatch.j2" %}{% block launch %}srun true\n{% endblock %}',
        ours='{% extends "hpctf/base.sbatch.j2" %}{% block epilog %}sync\n{% endblock %}',
        mip=EXTENDS,
    )
    starts = [
        "mip.sbatch.j2:1: no template extends or includes this one. Did you mean 'mpi.sbatch.j2'?",
        "mpi.sbatch.j2:3: the name 'colour' is not defined",
        "mpi.sbatch.j2:4: '| raw' leaves a value unquoted",
        "mpi.sbatch.j2:6: there is no block 'x'",
        "ours.sbatch.j2:1: there is no block 'epilog'",
    ]
    for words in starts:
        assert any(one.startswith(words) for one in problems), (words, problems)
    lacks = [one for one in problems if "lacks a step of hpctf's ranks" in one]
    assert len(lacks) == 1
    assert lacks[0].startswith("single.sbatch.j2: the script of backend 'single' lacks a step")
    assert len(problems) == len(starts) + 1


def test_templates_behind_a_link_are_found(tmp_path: Path, no_slurm: Path) -> None:
    (no_slurm / "shellcheck").unlink()
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "ours.j2").write_text('{% extends "hpctf/mpi.sbatch.j2" %}\n')
    (tmp_path / "templates").mkdir()
    (tmp_path / "templates" / "common").symlink_to(tmp_path / "shared")
    (tmp_path / "templates" / "mpi.sbatch.j2").write_text('{% extends "common/ours.j2" %}\n')
    assert validated(site_file(tmp_path, "name: mine\ntemplates: templates\n")).problems == []


def test_a_template_that_is_no_text_is_told(tmp_path: Path) -> None:
    path = site_file(tmp_path, "name: mine\ntemplates: templates\n", mpi="x")
    (tmp_path / "templates" / "mpi.sbatch.j2").write_bytes(b"\xff\xfe")
    assert any("cannot be read" in one for one in validated(path).problems)


def test_a_template_folder_that_is_not_there_is_told_once(tmp_path: Path) -> None:
    path = site_file(tmp_path, "name: mine\ntemplates: nowhere\n")
    (problem,) = validated(path).problems
    assert "nowhere', which is not a folder" in problem


def test_the_command_shows_a_table_and_exits_with_3(tmp_path: Path) -> None:
    good = hpctf("site", "validate", CLUSTER_SITE, cwd=tmp_path)
    assert good.returncode == 0, good.stderr
    rows = [line.split() for line in good.stdout.splitlines()]
    assert ["gpu", "single", "✓", "✓", "✓"] in rows
    path = site_file(tmp_path, "name: a\ntemplates: templates\n", mpi=in_prologue("{{ colour }}"))
    bad = hpctf("site", "validate", path, cwd=tmp_path)
    assert bad.returncode == 3
    assert re.search(r"default +mpi \(srun\) +✗", bad.stdout)
    assert f"{tmp_path}/templates/mpi.sbatch.j2:3: the name 'colour'" in bad.stderr
    answer = json.loads(hpctf("site", "validate", path, "--json", cwd=tmp_path).stdout)
    assert (answer["site"], answer["ok"], len(answer["problems"])) == ("a", False, 1)


def test_the_default_is_the_site_that_is_used(tmp_path: Path) -> None:
    answer = hpctf("site", "validate", "--json", cwd=tmp_path, env={"HPCTF_SITE": "slurm-mpirun"})
    assert json.loads(answer.stdout)["site"] == "slurm-mpirun"


def test_a_wrong_site_file_is_told_before_all_else(tmp_path: Path) -> None:
    path = site_file(tmp_path, "name: a\nmodule: x\nports: 5\n")
    done = hpctf("site", "validate", path, "--json", cwd=tmp_path)
    assert done.returncode == 3
    assert len(json.loads(done.stdout)["problems"]) == 2
    assert f"{path}:2: module: there is no such key" in done.stderr


def test_an_sbatch_that_cannot_reach_slurm_is_no_fault_of_the_site(no_slurm: Path) -> None:
    """A stand-in for sbatch, with the words of a real one whose slurmctld is away."""
    (no_slurm / "sbatch").write_text(
        f"#!{os.path.realpath(no_slurm / 'bash')}\n"
        'echo "sbatch: error: Batch job submission failed: Unable to contact slurm controller '
        '(connect failure)" >&2\nexit 1\n'
    )
    (no_slurm / "sbatch").chmod(0o755)
    found = validated("slurm")
    assert found.problems == []
    assert all("Slurm could not be asked" in case.note for case in found.cases)
    unasked = validate(load_site("slurm"), load_layers("slurm"), ask_slurm=False)
    assert all("sbatch" not in case.looks for case in unasked.cases)


def test_a_site_without_job_arrays_is_not_asked_for_one(tmp_path: Path) -> None:
    path = site_file(tmp_path, "name: a\ndrop: [array]\n")
    assert not [case for case in validated(path).cases if "array" in case.backend]

"""docs/get-started.md and the README, carried out on the real cluster: files and commands."""

from __future__ import annotations

import re

import pytest

from tests.conftest import ROOT, Person, skip_or_fail
from tests.support.built import CACHE, build_environment
from tests.support.guides import Block, blocks
from tests.support.waiting import HANGS_S

PAGE = ROOT / "docs/get-started.md"
README = ROOT / "README.md"


def script_of(page: list[Block]) -> str:
    """Return a page as one bash script; what it installs is there already."""
    lines = ["set -euo pipefail"]
    for block in page:
        lines.append(f"echo '=== line {block.line}'")
        if block.task.startswith("file="):
            path = block.task.removeprefix("file=")
            lines += [f'mkdir -p "$(dirname {path})"', f"cat > {path} <<'END-OF-FILE'"]
            lines += [block.body.rstrip("\n"), "END-OF-FILE"]
        elif block.task == "run":
            lines += block.commands
    return "\n".join(lines) + "\n"


def test_every_block_of_the_page_is_carried_out() -> None:
    page = [*blocks(PAGE.read_text())]
    assert PAGE.read_text().count("```") == 2 * len(page)
    tasks = {block.task.partition("=")[0] for block in page}
    assert tasks == {"install", "run", "file"}


def test_the_readmes_commands_are_of_the_page() -> None:
    """So that they are carried out, too."""
    page = PAGE.read_text()
    shown = re.findall(r"^\$ (hpctf \S.*?)(?: +#.*)?$", README.read_text(), re.MULTILINE)
    assert len(shown) >= 4
    assert [command for command in shown if f"\n$ {command}\n" not in page] == []
    python = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert python and all(f"{block.rstrip()}\n" in page for block in python)


@pytest.mark.slurm
@pytest.mark.tensorflow
def test_the_page_leads_to_a_trained_model(trainer: Person) -> None:
    for pip in ("scikit-learn", None):
        made = build_environment("2.21", backend="single", pip=pip)
        if made.returncode:
            skip_or_fail(f"the page's environments cannot be made: {made.stderr[-2000:]}")
    page = [*blocks(PAGE.read_text())]
    script = trainer.write("page.sh", script_of(page))
    done = trainer.cluster.run(
        "bash",
        script,
        user=trainer.user,
        cwd=trainer.home,
        env={
            **trainer.env,
            "PATH": f"{trainer.bin}:/usr/bin:/bin",
            "HPCTF_ENVIRONMENTS__STORE": str(CACHE / "environments"),
        },
        check=False,
        timeout=HANGS_S,
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert done.stdout.count("=== line ") == len(page)
    assert (trainer.home / "results/outputs/model.keras").is_file()
    assert (trainer.home / "model.keras").is_file()
    assert "#SBATCH" in done.stdout

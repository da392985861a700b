"""docs/admin-guide.md, run from top to bottom on the real cluster: files, commands, refusals."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path

import pytest

from tests.conftest import ROOT, Person, skip_or_fail
from tests.support.guides import Block, blocks
from tests.support.waiting import HANGS_S

pytestmark = pytest.mark.slurm

GUIDE = ROOT / "docs/admin-guide.md"

MODULES = Path("/etc/profile.d/modules.sh")


def script_of(guide: list[Block], home: Path) -> str:
    """Return the guide as one bash script: each command is named before it runs."""
    lines = ["set -euo pipefail", f"set +u; . {MODULES}; set -u", "refused=0"]
    for block in guide:
        lines.append(f"echo '=== line {block.line}'")
        if block.task.startswith("file="):
            path = block.task.removeprefix("file=")
            body = block.body.replace("/apps/hpctf", f"{home}/apps/hpctf")
            lines += [f'mkdir -p "$(dirname "{path}")"', f"cat > {path} <<'END-OF-FILE'"]
            lines += [body.rstrip("\n"), "END-OF-FILE"]
        for command in block.commands if block.task in ("run", "refused") else []:
            plain = command.replace("/apps/hpctf", f"{home}/apps/hpctf")
            lines.append(f"echo {shlex.quote('$ ' + command)}")
            if block.task == "run":
                lines.append(f"set +u; {plain}; set -u" if "module" in plain else plain)
            else:
                lines += [f"code=0; {plain} || code=$?", 'echo "exit code $code"', "test $code = 3"]
        if block.task == "install":
            lines.append(
                '[ -e "$HPCTF_HOME/0.1.0/venv" ] || ln -s "$INSTALLED" $HPCTF_HOME/0.1.0/venv'
            )
    return "\n".join(lines) + "\n"


def test_every_block_says_what_is_done_with_it() -> None:
    guide = list(blocks(GUIDE.read_text()))
    assert len(guide) > 20 and GUIDE.read_text().count("```") == 2 * len(guide)
    for block in guide:
        known = {
            "sh": ("run", "install", "refused"),
            "yaml": ("", "file="),
            "text": ("",),  # for a file of Slurm's own
        }.get(block.language, ("file=",))
        assert any(block.task == one or (one and block.task.startswith(one)) for one in known), (
            f"line {block.line}: {block.language} {block.task}"
        )


def test_settings_that_are_only_shown_are_a_sites(tmp_path: Path) -> None:
    from hpctf.site.loading import load_site

    shown = [one for one in blocks(GUIDE.read_text()) if (one.language, one.task) == ("yaml", "")]
    assert len(shown) == 3
    for block in shown:
        (tmp_path / "s.yaml").write_text(f"name: s\n{block.body}")
        assert load_site(tmp_path / "s.yaml").name == "s"


def test_the_guide_works_from_top_to_bottom(trainer: Person) -> None:
    if not MODULES.exists():
        skip_or_fail(f"There is no {MODULES}: environment-modules is not installed.")
    guide = list(blocks(GUIDE.read_text()))
    script = trainer.write("guide.sh", script_of(guide, trainer.home))
    env = {name: value for name, value in trainer.env.items() if name != "HPCTF_ADMIN_FOLDER"}
    done = trainer.cluster.run(
        "env",
        "--unset=HPCTF_ADMIN_FOLDER",
        "bash",
        script,
        user=trainer.user,
        cwd=trainer.home,
        env={
            **env,
            "INSTALLED": str(trainer.bin.parent),
            "TRAINING_PYTHON": trainer.env["HPCTF_EXAMPLE_PYTHON"],
        },
        check=False,
        timeout=HANGS_S,
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert said.count("=== line ") == len(guide)
    assert (trainer.home / "apps/hpctf/site/sites/slurm.yaml").exists()
    assert "Hello from worker 0" in said and "Hello from worker 1" in said
    assert "locked" in done.stderr and "exit code 3" in said
    assert "export UCX_TLS=self,sm,tcp" in said
    assert re.search(r"site: the training ended with 0 on n\d", said)
    assert "#SBATCH --time=0-01:00:00" in said, "the teaching site's"
    assert os.path.islink(trainer.home / "apps/hpctf/bin/hpctf")

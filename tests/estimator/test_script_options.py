"""Which scripts take an option: every way in which Python programs name theirs."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpctf import TensorFlow
from hpctf.estimator.script_options import takes_option
from tests.support.projects import project

TAKES = {
    "argparse": "p.add_argument('--data')\np.add_argument('--resume-from', type=str)",
    "short, too": "p.add_argument('-r', \"--resume-from\", dest='previous')",
    "click": "import click\n@click.option('--resume-from')\ndef main(resume_from): ...",
    "optparse": "parser.add_option('--resume-from', action='store')",
    "getopt": "getopt.getopt(argv, 'x', ['data=', 'resume-from='])",
    "by hand": "where = sys.argv[sys.argv.index('--resume-from') + 1]",
    "with =": "w = [a for a in sys.argv if a.startswith('--resume-from=')]",
    "docopt": '"""Usage: train [--resume-from DIR]"""\nfrom docopt import docopt\ndocopt(__doc__)',
    "fire": "import fire\ndef main(data, resume_from=None): ...\nfire.Fire(main)",
    "typer": "import typer\ndef main(*, resume_from: str = ''): ...\ntyper.run(main)",
    "Python 2": "print 'x'\nparser.add_argument('--resume-from')",
    "of a module beside it": "import options",
}

LEAVES = {
    "nothing": "print('hello')",
    "a comment": "# p.add_argument('--resume-from')",
    "a text that speaks of it": '"""Go on with: hpctf submit --resume-from RUN train.py"""',
    "another option": "p.add_argument('--resume-from-scratch')",
    "a parameter of no command line": "def load(resume_from=None): ...",
}


def takes(folder: Path, text: str, script: str = "train.py") -> bool:
    source = project(folder, script, text)
    (source / "options.py").write_text("NAMES = ['--resume-from']\n")
    return takes_option(TensorFlow(source, entry_script=script), "--resume-from")


@pytest.mark.parametrize("text", TAKES.values(), ids=list(TAKES))
def test_a_script_that_names_the_option_takes_it(text: str, tmp_path: Path) -> None:
    assert takes(tmp_path / "proj", text)


@pytest.mark.parametrize("text", LEAVES.values(), ids=list(LEAVES))
def test_all_others_do_not(text: str, tmp_path: Path) -> None:
    assert not takes(tmp_path / "proj", text)


def test_of_a_shell_script_the_text_counts_and_a_function_takes_none(tmp_path: Path) -> None:
    text = '#!/bin/sh\ncase "$1" in --resume-from) ;; esac\n'
    project(tmp_path / "proj", "run.sh", text).joinpath("run.sh").chmod(0o700)
    assert takes(tmp_path / "proj", text, "run.sh")
    assert not takes_option(TensorFlow(function=print), "--resume-from")

"""A site's layers: who may say what, which one wins, and whom an error names."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from hpctf import Experiment, TensorFlow
from hpctf.common.paths import SITE_CONFIGS
from hpctf.errors import SiteError, UsageError
from hpctf.site.discovery import find_project, site_files
from hpctf.site.layers import parse_layer
from hpctf.site.loading import load_layers, load_site
from tests.support.projects import hpctf, project


@pytest.fixture
def admin() -> Path:
    """The admin's folder of site files."""
    return made(Path(os.environ["HPCTF_ADMIN_FOLDER"]) / "sites")


@pytest.fixture
def user() -> Path:
    """The user's folder of site files."""
    return made(Path(os.environ["XDG_CONFIG_HOME"]) / "hpctf" / "sites")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, an empty one."""
    monkeypatch.chdir(made(tmp_path / "here"))
    return tmp_path / "here"


def made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


def cluster_of(admin: Path) -> Path:
    path = admin / "big.yaml"
    path.write_text(
        "name: big\n"
        "default_target: gpu\n"
        "targets:\n"
        "  gpu: {partition: gpu, gpus: 4, directives: {comment: admin}}\n"
        "  cpu:\n"
        "    partition: cpu\n"
        "modules: [cuda, openmpi]\n"
        "mpi:\n"
        "  plugin: pmix_v4\n"
        "  options: [--a, --b]\n"
    )
    return path


def refusal(*words: str, **asked: object) -> str:
    with pytest.raises(SiteError) as caught:
        load_site(*words, **asked)  # type: ignore[arg-type]
    return str(caught.value)


def test_a_users_file_changes_what_it_says_and_keeps_the_rest(admin: Path, user: Path) -> None:
    cluster_of(admin)
    (user / "big.yaml").write_text("targets: {gpu: {account: me}}\nmpi: {options: [--c]}\n")
    site = load_site("big")
    gpu = site.targets["gpu"]
    assert (site.name, gpu.partition, gpu.gpus, gpu.account) == ("big", "gpu", 4, "me")
    assert gpu.directives == {"comment": "admin"}
    assert site.mpi.plugin == "pmix_v4"
    assert site.mpi.options == ("--c",)  # lists replace
    assert site_files()["big"] == [admin / "big.yaml", user / "big.yaml"]


def test_a_packaged_site_is_changed_by_the_users_file(user: Path) -> None:
    (user / "slurm.yaml").write_text("description: mine\nmpi: {plugin: pmi2}\n")
    site = load_site("slurm")
    assert (site.name, site.description, site.mpi.plugin) == ("slurm", "mine", "pmi2")
    assert site.targets["default"].description == "Slurm's default partition"


def test_a_later_layer_can_unset_what_may_be_absent(user: Path) -> None:
    (user / "slurm.yaml").write_text("mpi: {plugin: null}\n")
    assert load_site("slurm").mpi.plugin is None


def test_the_layers_in_their_order(
    admin: Path, user: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of seven layers says one key more than the next, so each is last to say one."""
    keys = ["xa", "xb", "xc", "xd", "xe", "xf"]

    def said(by: str, count: int) -> dict[str, str]:
        return dict.fromkeys(keys[:count], by)

    def directives(by: str, count: int) -> str:
        return f"directives: {json.dumps(said(by, count))}\n"

    (admin / "big.yaml").write_text("name: big\n" + directives("admin", 6))
    (user / "big.yaml").write_text(directives("user", 5))
    of_big = json.dumps({"big": {"directives": said("project's big", 3)}})
    (here / "hpctf.yaml").write_text(directives("project", 4) + f"sites: {of_big}\n")
    for key in keys[:2]:
        monkeypatch.setenv(f"HPCTF_DIRECTIVES__{key.upper()}", "environment")
    found = load_site("big", settings={"directives.xa": "flag"}).directives
    assert found == {
        "xa": "flag",
        "xb": "environment",
        "xc": "project's big",
        "xd": "project",
        "xe": "user",
        "xf": "admin",
    }
    assert set(load_site("slurm").directives.values()) == {"environment", "project"}


def test_the_admins_folder_can_be_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = made(tmp_path / "sw" / "sites")
    cluster_of(elsewhere)
    with pytest.raises(UsageError):
        load_site("big")
    monkeypatch.setenv("HPCTF_ADMIN_FOLDER", str(elsewhere.parent))
    assert load_site("big").name == "big"


def test_a_project_chooses_the_site(
    admin: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster_of(admin)
    (here / "hpctf.yaml").write_text("site: big\n")
    assert load_site().name == "big"
    assert load_site("local").name == "local"
    monkeypatch.setenv("HPCTF_SITE", "slurm")
    assert load_site().name == "slurm"
    monkeypatch.delenv("HPCTF_SITE")
    (here / "hpctf.yaml").write_text("site: ./own.yaml\n")
    (here / "own.yaml").write_text("name: own\n")
    deeper = made(here / "a" / "b")
    monkeypatch.chdir(deeper)
    assert load_site().name == "own"  # the path is seen from the project's file


def test_the_source_folders_project_goes_before_the_current_folders(
    here: Path, tmp_path: Path
) -> None:
    source = made(tmp_path / "proj" / "src")
    assert find_project(source) is None
    (here / "hpctf.yaml").write_text("description: of here\n")
    assert load_site("slurm", project=source).description == "of here"
    (tmp_path / "proj" / "hpctf.yaml").write_text("description: of the source's parent\n")
    assert load_site("slurm", project=source).description == "of the source's parent"
    assert load_site("slurm").description == "of here"


def test_a_project_file_that_a_stranger_could_have_made_is_passed_over(
    here: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = here / "hpctf.yaml"
    file.write_text("prologue: [touch CANARY]\n")
    assert find_project() == str(file)
    here.chmod(0o1777)
    assert find_project() == str(file)  # as in /tmp, where nobody can replace it
    file.chmod(0o666)
    assert find_project() is None
    assert "'hpctf.yaml' is ignored" in caplog.text.replace(f"{here}/", "")
    file.chmod(0o644)
    here.chmod(0o777)
    assert find_project() is None
    here.chmod(0o755)
    assert find_project() == str(file)
    if os.geteuid():
        pytest.skip("only root can give files away")
    for changed in (file, here):
        os.chown(changed, 12345, -1)
        assert find_project() is None
        os.chown(changed, 0, -1)
    file.unlink()
    file.symlink_to("/etc/passwd")
    os.chown(file, 12345, -1, follow_symlinks=False)
    assert find_project() is None  # submissions below it go on
    assert load_site("slurm").prologue == ()


@pytest.mark.parametrize("text", ["", "# nothing yet\n", "site:\n", "sites: {}\n", "sites:\n"])
def test_a_project_file_that_says_nothing_is_fine(here: Path, text: str) -> None:
    (here / "hpctf.yaml").write_text(text)
    assert load_site("slurm").name == "slurm"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("- a\n", "1: hpctf.yaml is a mapping"),
        ("site: [a]\n", "1: site: must be a site's name."),
        ("\nsites: [a]\n", "2: sites must be a mapping"),
        ("sites:\n  slurm: 5\n", "2: sites.slurm: must be a mapping"),
        ("name: x\n", "1: name: this belongs in a site file"),
        ("sites:\n  slurm:\n    extends: local\n", "3: extends: this belongs in a site file"),
        ("mpi: {plugn: x}\n", "1: mpi.plugn: there is no such key. Did you mean 'plugin'?"),
        ("sites:\n  slurm:\n    ports:\n      first: 1\n", "4: ports.first: must be 1024 or more"),
    ],
)
def test_a_wrong_project_file_is_told_with_its_line(here: Path, text: str, words: str) -> None:
    (here / "hpctf.yaml").write_text(text)
    said = refusal(None if "site: [" in text else "slurm")  # type: ignore[arg-type]
    assert said.startswith(f"{here}/hpctf.yaml:{words}")


def test_variables_set_keys(admin: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster_of(admin)
    given = {
        "HPCTF_RUNS_ROOT": "/somewhere/with: colon #1",
        "HPCTF_MPI__LAUNCHER": "mpirun",
        "HPCTF_MPI__PLUGIN": "null",
        "HPCTF_MPI__OPTIONS": "[--x, '--y z']",
        "HPCTF_PIN_GPUS": "no",
        "HPCTF_PORTS__FIRST": "21000",
        "HPCTF_UMASK": "0027",
        "HPCTF_TARGETS__GPU__ACCOUNT": "007",
        "HPCTF_TARGETS__GPU__DIRECTIVES__MAIL_TYPE": "FAIL",
        "HPCTF_TARGETS__GPU__TIME_LIMIT": "1:30:00",
        "HPCTF_ENVIRONMENTS__HOROVOD__BUILD_VARIABLES__CXX": "g++-12",
        "HPCTF_DESCRIPTION": "",  # as good as none
        "HPCTF_ROLE": "chief",
        "HPCTF_NOBODYS": "x",
    }
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    site = load_site("big")
    gpu = site.targets["gpu"]
    assert site.runs_root == "/somewhere/with: colon #1"
    assert (site.mpi.launcher, site.mpi.plugin) == ("mpirun", None)
    assert site.mpi.options == ("--x", "--y z")
    assert (site.pin_gpus, site.ports.first, site.umask) == (False, 21000, "0027")
    assert (gpu.account, gpu.time_limit) == ("007", "1:30:00")
    assert gpu.directives == {"comment": "admin", "mail-type": "FAIL"}
    assert site.environments.horovod.build_variables == {"CXX": "g++-12"}


def test_targets_with_dashes_and_dots_are_found_by_variables_and_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "x.yaml"
    file.write_text("name: x\ndefault_target: A100.80-gb\ntargets: {A100.80-gb: {slots: 4}}\n")
    monkeypatch.setenv("HPCTF_TARGETS__A100_80_GB__ACCOUNT", "me")
    target = load_site(file, settings=["targets.A100.80-gb.slots=2"]).targets["A100.80-gb"]
    assert (target.account, target.slots) == ("me", 2)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("HPCTF_MPI__PLUGN", "x", "a site has no key 'mpi.plugn'. Did you mean 'plugin'?"),
        ("HPCTF_PORTS__FIRST", "80", "ports.first: must be 1024 or more (found 80)"),
        ("HPCTF_MODULES", "cuda", "modules: must be a list (found 'cuda')"),
        ("HPCTF_MODULES", "[cuda", "is not YAML that can be used"),
        ("HPCTF_SCHEDULER", "slrum", "scheduler: must be 'slurm' or 'local' (found 'slrum'). Did"),
    ],
)
def test_a_wrong_variable_is_named(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, words: str
) -> None:
    monkeypatch.setenv(name, value)
    said = refusal("slurm")
    assert said.startswith(f"{name}: ") and words in said


def test_settings_come_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HPCTF_MPI__PLUGIN", "pmi2")
    assert load_site("slurm").mpi.plugin == "pmi2"
    for settings in (["mpi.plugin=none"], {"mpi.plugin": "none"}, {"mpi": {"plugin": "none"}}):
        assert load_site("slurm", settings=settings).mpi.plugin == "none"  # type: ignore[arg-type]
    both = load_site("slurm", settings=["mpi.plugin=a", "mpi.plugin=b", "modules=[a, b]"])
    assert (both.mpi.plugin, both.modules) == ("b", ("a", "b"))
    typed = load_site("slurm", settings={"modules": ("a",), "targets.big.max_nodes": 3})
    assert (typed.modules, typed.targets["big"].max_nodes) == (("a",), 3)


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("mpi.plugn=x", "--set mpi.plugn: a site has no key 'mpi.plugn'. Did you mean 'plugin'?"),
        ("mpl.plugin=x", "Did you mean 'mpi'?"),
        ("targets.default.partion=x", "Did you mean 'partition'?"),
        ("mpi.plugin", "is not of the form KEY=VALUE"),
        ("=x", "is not of the form KEY=VALUE"),
        ("directives.=x", "a site has no key 'directives.'"),
        ("name=x", "name belongs in a site file"),
        ("locked=[mpi]", "locked belongs in a site file"),
    ],
)
def test_a_setting_of_no_key_is_wrong_usage(setting: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        load_site("slurm", settings=[setting])
    assert words in str(caught.value)


def test_a_wrong_setting_is_named() -> None:
    said = refusal("slurm", settings=["ports.first=80", "targets.default.slots=some"])
    assert said.splitlines() == [
        "--set targets.default.slots: targets.default.slots: must be a whole number (found 'some')",
        "--set ports.first: ports.first: must be 1024 or more (found 80)",
    ]


def test_a_site_extends_another(admin: Path, user: Path, tmp_path: Path) -> None:
    cluster_of(admin)
    (user / "big.yaml").write_text("targets: {gpu: {account: me}}\n")
    file = tmp_path / "x.yaml"
    file.write_text("name: x\nextends: big\nmpi: {plugin: pmi2}\n")
    site = load_site(file)
    assert (site.name, site.extends, site.mpi.plugin) == ("x", "big", "pmi2")
    assert (site.targets["gpu"].account, site.modules) == ("me", ("cuda", "openmpi"))
    (user / "y.yaml").write_text("name: y\nextends: z\n")
    (user / "z.yaml").write_text("name: z\nextends: big\nmpi: {options: []}\n")
    assert (load_site("y").mpi.options, load_site("y").mpi.plugin) == ((), "pmix_v4")


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (
            {"a": "name: a\nextends: a\n"},
            "a.yaml:2: extends: the sites go round in a circle: a → a",
        ),
        (
            {"a": "name: a\nextends: b\n", "b": "name: b\nextends: c\n", "c": "extends: b\n"},
            "c.yaml:1: extends: the sites go round in a circle: b → c → b",
        ),
        (
            {"a": "name: a\nextends: slrum\n"},
            "a.yaml:2: extends: there is no site 'slrum'. Did you mean 'slurm'?",
        ),
        ({"a": "name: a\nextends: [b]\n"}, "a.yaml:2: extends: must be text (found ['b'])"),
        ({"a": "extends: slurm\n"}, "a.yaml:1: name: this key is missing"),
        ({"a": "name: a\nextends: ''\n"}, "a.yaml:2: extends: there is no site ''"),
    ],
)
def test_sites_that_extend_what_they_cannot(user: Path, files: dict[str, str], words: str) -> None:
    for name, text in files.items():
        (user / f"{name}.yaml").write_text(text)
    assert words in refusal("a")


def test_every_error_of_all_layers_is_told_at_once(
    admin: Path, user: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (admin / "big.yaml").write_text("name: big\nmodule: [a]\nports:\n  first: 30000\n")
    (user / "big.yaml").write_text("module: [b]\ndefault_target: gpu\ndirectives:\n  nodes: 2\n")
    (here / "hpctf.yaml").write_text("mpi:\n  options: --x\n  plugin: a b\n")
    monkeypatch.setenv("HPCTF_UMASK", "0999")
    monkeypatch.setenv("HPCTF_MPI__PLUGN", "x")
    monkeypatch.setenv("HPCTF_MODULES", "[a")
    lines = refusal("big", settings=["ports.last=20000", "pin_gpus=perhaps"]).splitlines()
    expected = [
        f"{admin}/big.yaml:2: module: there is no such key. Did you mean 'modules'?",
        f"{user}/big.yaml:1: module: there is no such key. Did you mean 'modules'?",
        f"{user}/big.yaml:2: default_target: default_target names 'gpu', which is not in targets",
        f"{user}/big.yaml:4: directives.nodes: 'nodes' is set by hpctf itself",
        f"{here}/hpctf.yaml:2: mpi.options: must be a list (found '--x')",
        f"{here}/hpctf.yaml:3: mpi.plugin: plugin is 'a b', but must be of letters",
        "HPCTF_MPI__PLUGN: a site has no key 'mpi.plugn'. Did you mean 'plugin'? Known under mpi: ",
        "HPCTF_MODULES: '[a' is not YAML",
        "HPCTF_UMASK: umask: umask is '0999', but must be octal",
        "--set ports.last: ports.last: last (20000) lies below first (30000)",
        "--set pin_gpus: pin_gpus: must be true or false (found 'perhaps')",
    ]
    for words in expected:
        assert any(line.startswith(words) for line in lines), (words, lines)
    assert len(lines) == len(expected)


def test_files_that_are_no_yaml_are_told_together(admin: Path, user: Path) -> None:
    (admin / "big.yaml").write_text("name: big\nmpi: [\n")
    (user / "big.yaml").write_text("a: b: c\n")
    told = refusal("big").splitlines()
    assert [line.split(": this is not YAML")[0] for line in told] == [
        f"{admin}/big.yaml:3",
        f"{user}/big.yaml:1",
    ]


def test_templates_are_seen_from_the_file_that_names_them(
    admin: Path, user: Path, here: Path
) -> None:
    (admin / "big.yaml").write_text("name: big\ntemplates: ../templates\n")
    assert load_site("big").templates == str(admin / "../templates")
    (user / "big.yaml").write_text("description: mine\n")
    assert load_site("big").templates == str(admin / "../templates")
    (here / "hpctf.yaml").write_text("sites: {big: {templates: of-project}}\n")
    assert load_site("big").templates == str(here / "of-project")
    assert load_site("big", settings=["templates=x"]).templates == str(here / "x")


def test_what_is_kept_is_used_only_while_nothing_has_changed(
    admin: Path, user: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (admin / "base.yaml").write_text("name: base\nmodules: [a]\n")
    (admin / "big.yaml").write_text("name: big\nextends: base\n")
    assert load_site("big").modules == load_site("big").modules == ("a",)
    (admin / "base.yaml").write_text("name: base\nmodules: [b]\n")
    assert load_site("big").modules == ("b",)
    (user / "base.yaml").write_text("modules: [c]\n")
    assert load_site("big").modules == ("c",)
    (here / "hpctf.yaml").write_text("modules: [d]\n")
    assert load_site("big").modules == ("d",)
    monkeypatch.setenv("HPCTF_MODULES", "[e]")
    assert load_site("big").modules == ("e",)
    assert load_site("big", settings={"modules": ["f"]}).modules == ("f",)
    monkeypatch.delenv("HPCTF_MODULES")
    (here / "hpctf.yaml").unlink()
    (user / "base.yaml").unlink()
    assert load_site("big").modules == ("b",)
    (admin / "base.yaml").unlink()
    assert "there is no site 'base'" in refusal("big")


def test_what_is_kept_does_not_grow_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hpctf.site.loading._MOST_KEPT", 10)
    for number in range(30):
        load_site("slurm", settings={"description": str(number)})
    kept = list(Path(os.environ["XDG_CACHE_HOME"]).rglob("*.json"))
    assert 1 <= len(kept) <= 10


def test_a_layers_values_come_with_file_and_line(admin: Path, user: Path) -> None:
    file = cluster_of(admin)
    (user / "big.yaml").write_text("# mine\nmpi: &mine\n  plugin: pmi2\n")
    layers = load_layers("big", settings=["modules=[x]"])
    history = [(str(origin), value) for origin, value in layers.history(("mpi", "plugin"))]
    assert history == [(f"{file}:9", "pmix_v4"), (f"{user}/big.yaml:3", "pmi2")]
    assert str(layers.origin(("modules",))) == "--set modules"
    assert str(layers.origin(("targets", "gpu", "gpus"))) == f"{file}:4"


def test_submit_takes_settings_and_the_source_folders_project(here: Path, tmp_path: Path) -> None:
    source = project(tmp_path / "proj")
    (source / "hpctf.yaml").write_text("site: slurm\ntargets: {default: {account: ours}}\n")
    words = ["submit", "--dry-run", "--backend", "mpi", source / "train.py"]
    script = hpctf(*words[:-1], "--set", "mpi.plugin=pmi2", words[-1], cwd=here).stdout
    assert "#SBATCH --account=ours" in script and "--mpi=pmi2" in script
    (here / "job.yaml").write_text(
        f"script: {source}/train.py\nbackend: mpi\n"
        "set:\n  mpi.plugin: none\n  modules: [cuda/12, x=y]\n  targets.default.account: 007\n"
    )
    done = hpctf("submit", "--dry-run", "job.yaml", cwd=here)
    assert "--mpi=none" in done.stdout, done.stderr
    assert "module load cuda/12 x=y" in done.stdout
    assert "#SBATCH --account=007" in done.stdout
    wrong = hpctf("submit", "--dry-run", "--set", "mpi.plugn=x", source / "train.py", cwd=here)
    assert wrong.returncode == 2 and "Did you mean 'plugin'?" in wrong.stderr


def test_an_experiment_has_its_sites_layers(here: Path, tmp_path: Path) -> None:
    source = project(tmp_path / "proj")
    (here / "hpctf.yaml").write_text("runs_root: /of/project\ntargets: {default: {qos: high}}\n")
    experiment = Experiment("e", site="slurm")
    assert str(experiment.runs_root) == "/of/project"
    planned = experiment.plan(TensorFlow(source, entry_script="train.py"))
    assert ("qos", "high") in planned.plan.components[0].directives


def test_site_list_shows_the_files_of_each_site(user: Path, here: Path) -> None:
    (user / "slurm.yaml").write_text("description: mine\n")
    (user / "broken.yaml").write_text("description: nameless\n")
    (here / "hpctf.yaml").write_text("site: slurm\n")
    rows = {
        row["name"]: row for row in json.loads(hpctf("site", "list", "--json", cwd=here).stdout)
    }
    assert rows["slurm"]["files"] == [f"{SITE_CONFIGS}/slurm.yaml", f"{user}/slurm.yaml"]
    assert (rows["slurm"]["description"], rows["slurm"]["default"]) == ("mine", True)
    assert "name: this key is missing" in rows["broken"]["description"]
    text = hpctf("site", "list", cwd=here).stdout
    assert f"{user}/slurm.yaml" in text and "* slurm" in text


def test_site_list_works_whatever_the_project_says(here: Path) -> None:
    (here / "hpctf.yaml").write_text("site: nope\ncolour: red\n")
    done = hpctf("site", "list", cwd=here)
    assert done.returncode == 0 and "cannot be used" not in done.stdout
    assert f"There is no site 'nope', which {here}/hpctf.yaml:1 chooses." in done.stderr


@pytest.mark.parametrize("settings", [5, "mpi.plugin=x", {1: 2}, [5]])
def test_settings_that_are_none_are_wrong_usage(settings: object) -> None:
    with pytest.raises(UsageError, match=r"settings|--set"):
        load_site("slurm", settings=settings)  # type: ignore[arg-type]


def test_site_show_takes_settings(here: Path) -> None:
    done = hpctf("site", "show", "slurm", "--set", "mpi.plugin=pmi2", "--json", cwd=here)
    assert json.loads(done.stdout)["mpi"]["plugin"] == "pmi2"


MERGED = """\
name: a
targets:
  base: &b
    account: me
    time_limit: x
  gpu:
    <<: *b
    partition: g
  cpu:
    <<: [*b, {qos: z}]
    account: you
loop: &l
  <<: *l
  k: 1
modules: [a,
  b]
"""


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("targets", "gpu", "account"), 4),
        (("targets", "gpu", "partition"), 8),
        (("targets", "gpu", "nothing"), 6),
        (("targets", "cpu", "account"), 11),
        (("targets", "cpu", "qos"), 10),
        (("targets", "cpu", "time_limit"), 5),
        (("loop", "k"), 14),
        (("modules", 1), 16),
        (("nothing",), 1),
    ],
)
def test_the_line_of_a_merged_value_is_where_it_is_written(
    path: tuple[str | int, ...], line: int
) -> None:
    assert parse_layer("user", Path("a.yaml"), MERGED).origin(path).line == line

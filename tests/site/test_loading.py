"""Site files: which one is used, what they may say, and how errors are told."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from hpctf.common.paths import SITE_CONFIGS
from hpctf.errors import SiteError, UsageError
from hpctf.site.loading import default_site_name, load_site, read_site
from tests.conftest import ROOT
from tests.support.projects import CLUSTER_SITE, PACKAGED, hpctf

ANYWHERE = ["local", "slurm", "slurm-mpirun"]
REAL = [
    "frontera",
    "jean-zay",
    "juwels-booster",
    "leonardo-booster",
    "lumi-g",
    "marenostrum5-acc",
    "perlmutter",
    "snellius",
    "vista",
]


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Sites that were checked before are kept in the cache folder: here an empty one."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def site_file(folder: Path, text: str, name: str = "mine.yaml") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def errors_of(path: Path) -> list[str]:
    """Return a wrong file's errors without its name, one a line."""
    with pytest.raises(SiteError) as caught:
        read_site(path)
    lines = caught.value.message.splitlines()
    assert all(line.startswith(f"{path}:") for line in lines)
    assert caught.value.exit_code == 3
    return [line.removeprefix(f"{path}:") for line in lines]


@pytest.mark.parametrize("name", PACKAGED)
def test_packaged_sites_load(name: str) -> None:
    assert load_site(name).name == name


def test_the_packaged_sites_are_these() -> None:
    assert sorted(ANYWHERE + REAL) == PACKAGED


@pytest.mark.parametrize("name", REAL)
def test_a_real_clusters_file_names_its_sources_and_invents_no_account(name: str) -> None:
    text = Path(SITE_CONFIGS, f"{name}.yaml").read_text()
    assert re.search(r"^# Source: https://\S+\.\S+/", text, re.MULTILINE)
    assert "never run there" in text
    site = load_site(name)
    assert not any(target.account for target in site.targets.values())
    assert any(target.gpus for target in site.targets.values())
    gpu = site.targets[site.default_target]
    assert gpu.slots == gpu.gpus
    assert site.ps.target == "cpu"
    assert site.targets["cpu"].gpus == 0


@pytest.mark.parametrize("name", REAL)
def test_the_list_of_clusters_in_the_docs_has_every_target(name: str) -> None:
    table = (ROOT / "docs" / "site-configs.md").read_text()
    (row,) = [line for line in table.splitlines() if line.startswith(f"| `{name}`")]
    for target in load_site(name).targets:
        assert f"`{target}`" in row


def test_a_site_of_all_keys_loads_and_loads_again_from_the_cache() -> None:
    first = read_site(CLUSTER_SITE)
    assert first.targets["gpu"].directives == {"exclusive": True, "comment": "it's hpctf"}
    assert first.targets["cpu"].time_limit == "1:30:00"  # YAML 1.1 would read 5400
    assert read_site(CLUSTER_SITE) == first


def test_a_changed_file_is_read_anew(tmp_path: Path) -> None:
    path = site_file(tmp_path, "name: a\n")
    assert read_site(path).name == "a"
    path.write_text("name: b\n")
    assert read_site(path).name == "b"


def test_a_broken_cache_is_no_trouble(tmp_path: Path) -> None:
    path = site_file(tmp_path, "name: a\n")
    read_site(path)
    (kept,) = (tmp_path / "cache").rglob("*.json")
    for content in ("", "[]", "{}", '{"name": "b"}', "\0"):
        kept.write_text(content)
        assert read_site(path).name == "a"
    kept.unlink()
    kept.parent.chmod(0)
    try:
        assert read_site(path).name == "a"
    finally:
        kept.parent.chmod(0o700)


def test_without_configuration_it_is_slurm_where_there_is_an_sbatch(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert default_site_name() == load_site().name == "local"
    (tmp_path / "sbatch").touch(mode=0o755)
    assert default_site_name() == load_site().name == "slurm"


def test_hpctf_site_names_a_site_or_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HPCTF_SITE", "slurm-mpirun")
    assert load_site().name == "slurm-mpirun"
    monkeypatch.setenv("HPCTF_SITE", str(site_file(tmp_path, "name: filed\n")))
    assert load_site().name == "filed"
    assert load_site("local").name == "local"  # what is asked for goes first
    monkeypatch.setenv("HPCTF_SITE", "")
    assert load_site().name == default_site_name()


def test_an_unknown_site_is_refused_with_the_nearest() -> None:
    with pytest.raises(UsageError) as caught:
        load_site("slrum")
    assert caught.value.message == "There is no site 'slrum'. Did you mean 'slurm'?"
    assert f"Known sites: {', '.join(PACKAGED)}." in str(caught.value.hint)


def test_every_error_is_told_at_once_each_with_its_line(tmp_path: Path) -> None:
    path = site_file(
        tmp_path,
        "name: mine\n"
        "schedular: slurm\n"
        "default_target: gpu\n"
        "targets:\n"
        "  gpu:\n"
        "    partion: gpu\n"
        "    slots: 0\n"
        "    gpu_request: grass\n"
        "mpi:\n"
        "  launcher: orterun\n"
        "ports:\n"
        "  first: 80\n"
        "modules: cuda\n",
    )
    told = errors_of(path)
    expected = [
        ("2", "schedular: there is no such key. Did you mean 'scheduler'? Known here: "),
        ("6", "targets.gpu.partion: there is no such key. Did you mean 'partition'?"),
        ("7", "targets.gpu.slots: must be 1 or more (found 0)"),
        (
            "8",
            "targets.gpu.gpu_request: must be 'gpus-per-node', 'gres' or 'none' (found 'grass'). "
            "Did you mean 'gres'?",
        ),
        ("10", "mpi.launcher: must be 'srun' or 'mpirun' (found 'orterun')"),
        ("12", "ports.first: must be 1024 or more (found 80)"),
        ("13", "modules: must be a list (found 'cuda')"),
    ]
    for line, words in expected:
        assert any(one.startswith(f"{line}: {words}") for one in told), (line, words, told)
    assert len(told) == len(expected)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "1: a site file is a mapping"),
        ("- a\n", "1: a site file is a mapping"),
        ("name: [a\nb: c\n", "this is not YAML"),
        ("name: a\n\tb: c\n", "2: this is not YAML"),
        ("name: a\0\n", "this is not YAML"),
        ("name: a\nname: &x [*x]\n", "name"),
        ("description: nameless\n", "1: name: "),
        ("name: two words\n", "'two words'"),
        ("name: a\ntargets: {}\n", "which is not in targets (none)"),
        ("name: a\ndefault_target: gpu\n", "default_target names 'gpu', which is not in targets"),
        ("name: a\nps: {target: cpu}\n", "ps.target names 'cpu', which is not in targets"),
        ("name: a\nports: {first: 30000, last: 20000}\n", "last (20000) lies below first (30000)"),
        ("name: a\ndirectives: {Mem: 1}\n", "'Mem' is not the long name of an sbatch option"),
        ('name: a\ndirectives: {comment: "a\\n#SBATCH"}\n', "cannot stand on an #SBATCH line"),
        ("name: a\nmpi: 5\n", "2: mpi: "),
        ("name: a\ntargets: [gpu]\n", "2: targets: "),
    ],
)
def test_a_wrong_file_is_told_with_file_and_line(tmp_path: Path, text: str, words: str) -> None:
    assert words in "\n".join(errors_of(site_file(tmp_path, text)))


def test_files_that_cannot_be_read_are_told(tmp_path: Path) -> None:
    with pytest.raises(SiteError, match=r"The site file \S+/gone\.yaml does not exist\."):
        load_site(tmp_path / "gone.yaml")
    with pytest.raises(SiteError, match=r"cannot be read: .*directory"):
        read_site(tmp_path)
    (tmp_path / "latin.yaml").write_bytes(b"name: caf\xe9\n")
    with pytest.raises(SiteError, match="cannot be read"):
        load_site(tmp_path / "latin.yaml")


def test_a_times_directive_is_not_read_in_base_60(tmp_path: Path) -> None:
    text = "name: a\ndirectives: {begin: 16:30:00, nice: 100}\n"
    assert read_site(site_file(tmp_path, text)).directives == {"begin": "16:30:00", "nice": 100}


def test_a_template_folder_is_seen_from_its_site_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = site_file(tmp_path / "conf", "name: a\ntemplates: ./templates\n")
    monkeypatch.chdir("/")
    assert read_site(path).templates == str(tmp_path / "conf" / "templates")
    home = site_file(tmp_path, "name: a\ntemplates: ~/templates\n")
    assert read_site(home).templates == os.path.expanduser("~/templates")


def test_site_list_names_all_and_marks_the_default_one(tmp_path: Path) -> None:
    done = hpctf("site", "list", cwd=tmp_path, env={"HPCTF_SITE": "local"})
    assert done.returncode == 0, done.stderr
    named = [line for line in done.stdout.splitlines() if line[2:3].strip()]
    marks = {line[2:].split()[0]: line[0] for line in named}
    assert marks == {name: "*" if name == "local" else " " for name in PACKAGED}
    assert len(done.stdout.splitlines()) == len(PACKAGED)  # without their files, all alike
    rows = json.loads(hpctf("site", "list", "--json", cwd=tmp_path).stdout)
    assert [row["name"] for row in rows] == PACKAGED
    assert all(Path(row["file"]).is_file() for row in rows)


def test_site_show_prints_a_site_that_could_be_a_file_again(tmp_path: Path) -> None:
    shown = hpctf("site", "show", CLUSTER_SITE, cwd=tmp_path, env={"HPCTF_RUNS_ROOT": ""})
    assert shown.returncode == 0, shown.stderr
    assert read_site(site_file(tmp_path, shown.stdout)) == read_site(CLUSTER_SITE)
    answer = json.loads(hpctf("site", "show", CLUSTER_SITE, "--json", cwd=tmp_path).stdout)
    assert answer["targets"]["gpu"]["gpu_type"] == "a100"


def test_site_show_of_a_wrong_file_exits_with_3(tmp_path: Path) -> None:
    path = site_file(tmp_path, "name: a\ncolour: red\n")
    done = hpctf("site", "show", path, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith(f"hpctf: error: {path}:2: colour: there is no such key.")

"""`cmake --install` puts everything in its place, and `uninstall` takes it away again."""

import os
import pathlib
import subprocess
import sys

import pytest
from holdfast_testing.proxy import build_bin

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = build_bin().parent
PREFIX = "usr/local"
WANTED = [f"{PREFIX}/bin/{name}" for name in ("holdfastd", "holdfast", "holdfast-bench")] + [
    f"{PREFIX}/etc/holdfast/holdfast.yaml",
    f"{PREFIX}/lib/systemd/system/holdfastd.service",
    f"{PREFIX}/share/man/man8/holdfastd.8",
    f"{PREFIX}/share/man/man5/holdfastd.conf.5",
    f"{PREFIX}/share/man/man1/holdfast.1",
    f"{PREFIX}/share/man/man1/holdfast-bench.1",
    f"{PREFIX}/share/bash-completion/completions/holdfast",
    f"{PREFIX}/share/zsh/site-functions/_holdfastd",
    f"{PREFIX}/share/fish/vendor_completions.d/holdfast-bench.fish",
    f"{PREFIX}/share/holdfast/scrub/emco.yaml",
    f"{PREFIX}/share/doc/holdfast/README.md",
    f"{PREFIX}/share/doc/holdfast/docs/README.md",
    f"{PREFIX}/share/doc/holdfast/deploy/kubernetes/sidecar.yaml",
]


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    place = tmp_path_factory.mktemp("installed")
    done = subprocess.run(
        ["cmake", "--install", BUILD],
        env={**os.environ, "DESTDIR": str(place)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return place


def test_everything_is_in_its_place(installed):
    missing = [name for name in WANTED if not (installed / name).exists()]
    assert not missing
    beside = [
        path for path in installed.rglob("*") if "__pycache__" in path.parts or path.suffix == ".in"
    ]
    assert not beside
    outside = {
        path.relative_to(installed).parts[0] for path in installed.rglob("*") if path.is_file()
    }
    assert outside == {"usr"}


def test_the_programs_run_and_the_unit_names_them(installed):
    for name in ("holdfastd", "holdfast", "holdfast-bench"):
        subprocess.run([installed / PREFIX / "bin" / name, "--version"], check=True)
    unit = (installed / PREFIX / "lib/systemd/system/holdfastd.service").read_text()
    assert (
        f"ExecStart=/{PREFIX}/bin/holdfastd --config /{PREFIX}/etc/holdfast/holdfast.yaml\n" in unit
    )
    config = installed / PREFIX / "etc/holdfast/holdfast.yaml"
    check = [installed / PREFIX / "bin/holdfastd", "--config", config, "--check-config"]
    subprocess.run(check, check=True)


def test_the_links_of_the_pages_hold(installed):
    done = subprocess.run(
        [sys.executable, ROOT / "tests/lint/links", installed / PREFIX / "share/doc/holdfast"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout

"""The package: its page, its version, and what is built of it, in an environment with nothing but what it declares."""

import email
import json
import os
import re
import runpy
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from importlib.metadata import distribution
from pathlib import Path

import pytest

import jaxbp

ROOT = Path(__file__).parents[1]
NET = """
loss = "cross_entropy"
seed = 0
[network]
layers = [3, 2, 2]
hidden = "sigmoid"
output = "softmax"
[data]
x = [[1.0, 2.0, -1.0], [0.5, 0.0, 1.0]]
y = [0, 1]
"""


def test_the_version_is_the_same_where_it_is_written():
    assert re.fullmatch(r"\d+\.\d+\.\d+", jaxbp.__version__)
    assert f"\nversion: {jaxbp.__version__}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")


def test_nothing_on_the_page_leads_into_a_checkout():
    page = runpy.run_path(str(ROOT / "setup.py"))["page"]
    text = (
        "![a plot](docs/a.svg), [a guide](docs/b.md), [a site](https://c.d/e), [below](#f), `g[0](1)`, ![i](https://j)"
    )
    assert page(text) == "*a plot*, a guide, [a site](https://c.d/e), [below](#f), `g[0](1)`, ![i](https://j)"
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "](docs/" in readme
    assert not re.findall(r"\]\((?!https?:|#)[^)]*\)", page(readme))


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The sdist, what is in it, and the wheel that is made of it."""
    folder = tmp_path_factory.mktemp("built")
    ignored = shutil.ignore_patterns(".*", "runs", "build", "dist", "*.egg-info", "__pycache__")
    shutil.copytree(ROOT, folder / "tree", ignore=ignored)

    def build(what, place):
        code = f"from setuptools import build_meta; build_meta.build_{what}({str(folder)!r})"
        subprocess.run([sys.executable, "-c", code], cwd=place, check=True, capture_output=True)

    build("sdist", folder / "tree")
    (sdist,) = folder.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    unpacked = folder / sdist.name.removesuffix(".tar.gz")
    build("wheel", unpacked)
    (wheel,) = folder.glob("*.whl")
    return unpacked, wheel


def needed(name, found):
    """A distribution and all that it needs, without extras."""
    if name.lower() in found:
        return found
    found[name.lower()] = distribution(name)
    for line in found[name.lower()].requires or ():
        requirement, _, marker = line.partition(";")
        if "extra" not in marker and "python_version <" not in marker and "platform" not in marker:
            needed(re.match(r"[\w.-]+", requirement)[0], found)
    return found


@pytest.fixture(scope="module")
def bare(built, tmp_path_factory):
    """An environment with the wheel and what it declares, linked from this one."""
    _, wheel = built
    folder = tmp_path_factory.mktemp("bare")
    venv.create(folder, with_pip=False)
    (site,) = folder.glob("lib/python*/site-packages")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
        (metadata,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        declared = email.message_from_bytes(archive.read(metadata)).get_all("Requires-Dist")
    found = {}
    for line in declared:
        if "extra ==" not in line:
            needed(re.match(r"[\w.-]+", line)[0], found)
    for one in found.values():
        for top in {path.parts[0] for path in one.files or () if path.parts[0] not in ("..", "__pycache__")}:
            if not (site / top).exists():
                os.symlink(one.locate_file(top), site / top)
    return folder


def ran(bare, *words, code=0):
    python = bare / "bin" / "python"
    start = ["-c", "import sys; from jaxbp.experiments.__main__ import run; sys.argv[0] = 'jaxbp'; run()"]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {"COLUMNS": "80"}
    done = subprocess.run(
        [python, *start, *words], cwd=bare, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.slow
def test_the_sdist_holds_what_its_tests_need_and_the_wheel_what_users_need(built):
    unpacked, wheel = built
    for name in ("tests/cases.py", "tests/golden/explanation.md", "tests/mistakes/__init__.py", "constraints.txt"):
        assert (unpacked / name).is_file(), name
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {"jaxbp/py.typed", "jaxbp/experiments/tools/check.py", "jaxbp/_check/_catalogue/_words.py"} <= names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"jaxbp"}
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "jaxbp").rglob("*.py")}
    assert modules <= names
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "tests/test_names.py",
        "tests/test_network.py",
    ]
    environment = os.environ | {"PYTHONPATH": str(unpacked)}
    done = subprocess.run(command, cwd=unpacked, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.slow
def test_a_bare_environment_imports_lists_checks_and_explains(bare):
    assert "  check  " in ran(bare, "--help")
    assert ran(bare, "--version") == f"{jaxbp.__version__}\n"
    (bare / "net.toml").write_text(NET)
    (bare / "mine.json").write_text(json.dumps({"delta.o": [[0.5, -0.5], [0.5, -0.5]]}))
    assert "delta.o is wrong" in ran(bare, "check", "mine.json", "--network", "net.toml", code=1)
    assert "32 wrong" in ran(bare, "worked_example")
    assert (bare / "runs" / "worked_example" / "slides.html").is_file()
    assert "slides.html" in ran(bare, "explain")
    assert (bare / "slides.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    ran(bare, "exercise", "--network", "3-2-2", "--seed", "7")
    assert (bare / "exercises" / "7" / "sheet.html").is_file()
    lacking = ran(bare, "train", code=1)
    assert lacking.startswith("error: this needs ")
    assert lacking.endswith("which is not installed: pip install 'jaxbp[experiments]'\n")
    assert len(lacking.splitlines()) == 1

"""The command that writes a page: what it reads, where it writes, and what it refuses."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from jaxbp.experiments.tools import explain
from jaxbp.experiments.tools.explain import Explain, main

SLIDES = Path(explain.__file__).with_name("slides.toml")


def data_in(page: Path) -> dict:
    text = page.read_text(encoding="utf-8")
    return json.loads(re.search(r'id="data">(.*?)</script>', text, re.DOTALL)[1])


def test_the_slides_have_a_page_in_their_notation_with_their_claims(tmp_path, capsys):
    page = main(Explain(SLIDES, learning_rate=0.5, out=tmp_path / "page.html"))
    assert page == tmp_path / "page.html"
    assert f"{page.stat().st_size / 1000:.0f} kB" in capsys.readouterr().out
    data = data_in(page)
    arrays = {array["name"]: array for array in data["arrays"]}
    assert arrays["learning_rate"]["values"] == [0.5]
    assert arrays["W.o.h1"]["texts"] == {"0": "w₇", "1": "w₈", "2": "w₉", "3": "w₁₀"}
    # as the worked example has them: a sum, two numbers rounded from it, two swapped weights
    wrong = {claim["name"] for claim in data["claims"] if not claim["holds"]}
    assert wrong >= {"a.o[1]", "h.o[0]", "h.o[1]", "grad.o.h1[0, 1]", "grad.o.h1[1, 0]"}
    assert not wrong & {"a.h1[0]", "a.h1[1]", "h.h1[0]", "a.o[0]", "delta.o[0]", "grad.o.h1[0, 0]"}


@pytest.mark.parametrize(
    ("text", "options", "says"),
    [
        ("[claims]\n", {}, "there is no network|has no 'loss'"),
        (None, {"learning_rate": -1.0}, "learning_rate"),
        (None, {"out": "itself"}, "would overwrite what is read"),
    ],
)
def test_what_does_not_fit_is_refused(text, options, says, tmp_path):
    path = tmp_path / "net.toml"
    path.write_text(SLIDES.read_text(encoding="utf-8") if text is None else text, encoding="utf-8")
    options = {"out": tmp_path / "page.html"} | options
    if options["out"] == "itself":
        options["out"] = path
    with pytest.raises(ValueError, match=says):
        main(Explain(path, **options))


@pytest.mark.slow
def test_an_error_is_a_sentence(tmp_path):
    command = [sys.executable, "-m", "experiments.explain", str(tmp_path / "none.toml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error:")
    assert "Traceback" not in done.stderr

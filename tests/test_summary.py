"""What a network looks like: on a few lines, as a table, in a notebook, as a drawing."""

from xml.etree import ElementTree

import pytest
from cases import ALL, case_named

import jaxbp
from jaxbp import Dense, Unit

SVG = "{http://www.w3.org/2000/svg}"


@pytest.mark.parametrize("case", ALL, ids=lambda case: case.name)
def test_every_unit_has_a_row_and_the_parameters_add_up(case):
    *rows, _, totals = case.net.summary().splitlines()[2:]
    cells = {row.split()[0]: row for row in rows}
    assert list(cells)[: len(case.net.shapes)] == [*case.net.inputs, *case.net.order]
    assert totals.startswith(f"{case.net.parameter_count:,} parameter")
    for u in case.net.order:
        assert all(source in cells[u] for source in case.net.plan.edges[u])
    counted = [int(cells[u].split()[-2].replace(",", "")) for u in case.net.order]
    shared = [int(cells["shared"].split()[-1])] if "shared" in cells else []
    assert sum(counted + shared) == case.net.parameter_count


@pytest.mark.parametrize("case", ALL, ids=lambda case: case.name)
def test_a_drawing_has_a_box_for_each_unit_and_a_line_for_each_edge(case):
    root = ElementTree.fromstring(case.net.drawing())
    boxes = [box.find(f"{SVG}title").text.split(":")[0] for box in root.iter(f"{SVG}g")]
    assert boxes == [*case.net.inputs, *case.net.order]
    lines = sorted(path.find(f"{SVG}title").text for path in root.iter(f"{SVG}path"))
    assert lines == sorted(f"{s} ⇒ {u}" for s, readers in case.net.plan.readers.items() for u in readers)
    width, height = (float(root.get(side)) for side in ("width", "height"))
    for box in root.iter(f"{SVG}rect"):
        x, y, w, h = (float(box.get(name)) for name in ("x", "y", "width", "height"))
        assert min(x, y) >= 0
        assert x + w <= width
        assert y + h <= height


def test_a_long_network_is_told_on_a_few_lines_and_drawn_at_its_ends():
    net = jaxbp.layered([4] * 300, output=jaxbp.linear)
    assert len(str(net).splitlines()) == 12
    assert "… 289 more units …" in str(net)
    assert "239 in the middle are left out" in net.drawing()
    assert len(ElementTree.fromstring(net.drawing()).findall(f"{SVG}g")) == 61


def test_names_are_text():
    hostile = "<script>&\"'"
    net = jaxbp.Network({hostile: 3}, {"o": Unit(2, jaxbp.linear, {hostile: Dense()})})
    assert "<script>" not in net._repr_html_()
    assert hostile in net.summary()
    assert ElementTree.fromstring(net.drawing()).find(f"{SVG}g/{SVG}title").text == f"{hostile}: 3"


def test_what_is_printed():
    assert str(case_named("skip connection").net).splitlines() == [
        "Network of x 4: 3 units, 79 parameters",
        "  h1: 5 tanh of x (Dense), bias",
        "  h2: 3 sigmoid of h1 (Dense), bias",
        "  o: 3 softmax of h2 (Dense), h1 (Dense), x (Dense)",
    ]

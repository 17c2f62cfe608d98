"""A network in a notebook: its graph, and its units in a table."""

from jaxbp._drawing import drawing
from jaxbp._network import Network
from jaxbp._notebook._parts import ENDS, Column, cell, ends, paragraph, scrolling, shown, table
from jaxbp._summary import COLUMNS, FIRST_NUMBER, rows, totals


def of_network(net: Network) -> str:
    """The drawing of the graph and the table; of a long one the first and last units."""
    columns = [Column(name, "number" if i >= FIRST_NUMBER else "text") for i, name in enumerate(COLUMNS)]
    first, more, last = ends(rows(net.inputs, net.units, net.plan))
    lines = [[*map(cell, row)] for row in first]
    if more:
        lines += [[cell(f"… {more} more, see print(net.summary()) …")], *([*map(cell, row)] for row in last)]
    graph = drawing(net.inputs, net.units, net.plan, most=2 * ENDS)
    return shown(
        scrolling(graph, "The graph"),
        table(columns, lines, "Units of the network"),
        paragraph(totals(net.units, net.plan), "soft"),
    )

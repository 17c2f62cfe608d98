"""What people write is text: symbols in LaTeX notation, and that nothing anybody wrote does anything in any format."""

import re
from dataclasses import replace
from html.parser import HTMLParser

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import jaxbp
from jaxbp._explain._escaping import code_in_markdown, in_latex, in_markdown, visible
from jaxbp._explain._html import fragment
from jaxbp._explain._mathml import mathml
from jaxbp._explain._style import STYLE
from jaxbp._explain._symbols import ACCENTS, FONTS, SIGNS, SymbolError, in_text, parse_symbol, upright
from jaxbp._explain._symbols import in_latex as in_maths

# Symbols.

SYMBOLS = [  # as written, in LaTeX, in Unicode
    ("w_{10}", "w_{10}", "w₁₀"),
    ("a^{(1)}", "a^{(1)}", "a⁽¹⁾"),
    (r"\hat{y}_1", r"\hat{y}_1", "ŷ₁"),
    (r"\hat y", r"\hat{y}", "ŷ"),
    (r"\hat\alpha x", r"\hat{\alpha}x", "α\u0302x"),
    (r"\bar{ab}", r"\bar{ab}", "bar(ab)"),
    (r"\delta^{(2)}_3", r"\delta^{(2)}_3", "δ⁽²⁾₃"),
    (r"\mathrm{net}_1", r"\mathrm{net}_1", "net₁"),
    (r"\text{my net}", r"\mathrm{my\;net}", "my net"),
    ("my net", r"my\;net", "my net"),
    ("w_{ij}", "w_{ij}", "w_(ij)"),
    ("z_o", "z_o", "z_o"),
    (r"x_\mathrm{in}", r"x_{\mathrm{in}}", "x_(in)"),
    (r"\eta", r"\eta", "η"),
    (r"\alpha x", r"\alpha x", "αx"),
    ("σ_1", r"\sigma_1", "σ₁"),
    ("h'", r"h^{\prime}", "h′"),
    ("h''_1", r"h^{\prime\prime}_1", "h′′₁"),
    ("h'^2", r"h^{\prime2}", "h′²"),
    ("{h_1}^2", "{h_1}^2", "h₁²"),
    ("W_2^T", "W^T_2", "W^T₂"),
    (r"50\%", r"50\%", "50%"),
    ("%&#<b>|*~", r"\%\&\#\lt b\gt\vert\ast\sim", "%&#<b>|*~"),
    ("a](b)://www.c", "a] (b): //www .c", "a](b)://www.c"),
    ("ä", r"\text{ä}", "ä"),
    ("−x_{−1}", "-x_{-1}", "−x₋₁"),
]
NO_SYMBOLS = [
    ("", "it shows nothing"),
    ("{}", "it shows nothing"),
    ("h^", r"there is nothing after '\^'"),
    ("{h_}", "there is nothing after '_'"),
    (r"\hat", r"there is nothing after '\\\\hat'"),
    ("^2", r"there is nothing before '\^'"),
    ("a^b^c", "two things stand above the same one; put the first into braces"),
    ("a_b_c", "two things stand below the same one"),
    ("}", "it holds '}' without '{'"),
    ("{", "it holds '{' without '}'"),
    ("\\", r"it ends in a '\\'"),
    ("$w$", "leave the dollar signs out"),
    ("a\x1bb", r"it holds the character '\\x1b', which cannot be printed"),
    ("a\nb", r"it holds the character '\\n', which cannot be printed"),
    (r"\href{javascript:alert(1)}{x}", r"it uses \\href; a symbol is made of letters, .* as in \\mathrm{in}"),
    (r"\input{x}", r"it uses \\input"),
    (r"\write18{x}", r"it uses \\write"),
    (r"\\", r"it uses \\\\"),
    ("{" * 11 + "x" + "}" * 11, "it is nested more than 10 deep"),
    (r"\hat" * 11 + " x", "it is nested more than 10 deep"),
    ("x" * 201, "it is 201 characters long, and 200 are allowed"),
]


@pytest.mark.parametrize(("written", "latex", "text"), SYMBOLS)
def test_a_symbol_in_latex_and_in_unicode(written, latex, text):
    symbol = parse_symbol(written)
    assert (in_maths(symbol), in_text(symbol)) == (latex, text)


@pytest.mark.parametrize(("written", "message"), NO_SYMBOLS, ids=lambda text: text[:20])
def test_what_is_no_symbol_is_refused(written, message):
    with pytest.raises(ValueError, match=rf"names\['o'\] is '.*', which is no symbol: {message}"):
        explained(names={"o": written})


@pytest.mark.parametrize("command", [*SIGNS, *(f"{command}{{x}}" for command in (*ACCENTS, *FONTS))])
def test_every_command_is_typeset(command):
    latex = in_maths(parse_symbol(f"\\{command}"))
    shown = re.sub("<[^>]*>", "", mathml(latex).elements)
    assert ("\\" in shown) == (command == "backslash")
    assert 1 <= len(shown.replace("&lt;", "<").replace("&gt;", ">")) <= 2


def test_text_of_maths_never_becomes_an_element():
    assert "<mtext>&lt;b&gt;</mtext>" in mathml(r"\text{<b>}").elements


# Everything else.


@pytest.mark.parametrize(
    ("text", "markdown", "latex"),
    [
        ("slide 3: R&D", "slide 3: R&amp;D", r"slide 3: R\&D"),
        ("x_1^2 {7} ~3 \\n", r"x\_1^2 {7} \~3 \\n", r"x\_1\^{}2 \{7\} \~{}3 \textbackslash{}n"),
        ("<b> [a](b) `c` *d* |e|", r"&lt;b&gt; \[a\](b) \`c\` \*d\* \|e\|", None),
        ("a\n# b\x1b[0m\u202e\ud800", "a # b\\\\x1b\\[0m\\\\u202e\\\\ud800", None),
        ("http://a.b www.a.b c@d", r"http:\//a.b www\.a.b c\@d", None),
        ("$5 − 3 ✓", r"\$5 − 3 ✓", r"\$5 $-$ 3 $\checkmark$"),
    ],
)
def test_a_text_in_markdown_and_in_latex(text, markdown, latex):
    assert in_markdown(text) == markdown
    assert latex is None or in_latex(text) == latex


def test_only_what_cannot_end_a_code_span_is_in_one():
    assert code_in_markdown("W.h_1.layer-2[0, 1]") == "`W.h_1.layer-2[0, 1]`"
    assert code_in_markdown("a.x`<b>") == r"a.x\`&lt;b&gt;"


def test_the_name_of_a_unit_can_be_printed():
    with pytest.raises(ValueError, match=r"'a\\x1b' cannot be the name of an input, a unit .* printable characters"):
        explained(unit="a\x1b")


# Hostile text, everywhere at once.

FRAGMENTS = [
    *("<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "</title>", "</style>", "<!--", "-->", "]]>"),
    *("&lt;b&gt;", "&#60;i>", '"', "'", '" onclick="alert(1)', "](javascript:alert(1))", "![x](http://e.x)", "[", "]("),
    *("http://e.x", "www.e.x", "\\href{javascript:alert(1)}{x}", "\\input{/etc/passwd}", "\\write18{ls}", "^^5c"),
    *(
        "\\end{document}",
        "\\text{<b>}",
        "\\mathrm{<b>}",
        "\\hat",
        "$",
        "$$",
        "`",
        "```",
        "|",
        "*",
        "**",
        "_",
        "__",
        "~~",
    ),
    *(
        "\n",
        "\n\n# x",
        "\r",
        "\x00",
        "\x1b[31m",
        "\u202e",
        "\u2028",
        "\x85",
        "{",
        "}",
        "\\",
        "^",
        "%",
        "#",
        "&",
        "-",
        "−",
    ),
    *("✓", "ä", "日", "😀", "²", "x", "h1", "7", " "),
]
HOSTILE = st.lists(st.sampled_from(FRAGMENTS) | st.characters(), min_size=1, max_size=4).map("".join)
UNITS = HOSTILE.map(lambda text: "".join(c for c in text if c.isprintable() and c not in ".[] ") or "u")


def explained(unit="o", activation="tanh", loss="squared_error", **options) -> jaxbp.Explanation:
    """A network of one weight, in which everything that has a name has one of these."""
    phi = jaxbp.elementwise(jnp.tanh, lambda a, h: 1 - h**2, name=activation)
    net = jaxbp.Network({"x": 1}, {unit: jaxbp.Unit(1, phi, {"x": jaxbp.Dense()}, bias=False)})
    params = {unit: {"x": np.array([[0.5]])}}
    named = replace(jaxbp.squared_error, name=loss)
    return jaxbp.explain(net, named, params, np.ones(1), -np.ones(1), **options)


class Tree(HTMLParser):
    """What a browser makes of a page: tags with their attributes, and the text between them."""

    def __init__(self, page: str):
        super().__init__()
        self.attributes: list[tuple[str, str, str]] = []
        self.tags: set[str] = set()
        self.open: list[str] = []
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]
        if tag not in ("meta", "link"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        assert self.open[-1:] != ["style"] or data.strip() == STYLE.strip()
        self.text += data

    def unexpected(self, data):
        raise AssertionError(data)

    handle_comment = handle_pi = unknown_decl = unexpected


TAGS = {
    *(
        "html",
        "head",
        "meta",
        "link",
        "title",
        "body",
        "style",
        "div",
        "h1",
        "h2",
        "h3",
        "p",
        "table",
        "thead",
        "tbody",
    ),
    *("main", "nav", "details", "summary", "ul", "li", "mtable", "mtr", "mtd", "msqrt"),
    *("tr", "th", "td", "a", "section", "code", "span", "math"),
    *("mrow", "mi", "mn", "mo", "mtext", "mspace", "msub", "msup", "msubsup", "mfrac", "mover", "munder", "mstyle"),
}
ATTRIBUTES = {
    *("lang", "charset", "name", "content", "rel", "href", "class", "id", "title", "xmlns", "display"),
    *("open", "scope", "tabindex", "role", "aria-label", "rspace"),
    *("form", "stretchy", "fence", "mathvariant", "accent", "width"),
}


def check_html(page: str) -> str:
    tree = Tree(page)
    assert tree.open == []
    assert tree.tags <= TAGS
    assert {name for _, name, _ in tree.attributes} <= ATTRIBUTES
    links = [value for _, name, value in tree.attributes if name == "href"]
    assert all(value.startswith("#") for value in links if value != "data:,")
    assert links.count("data:,") <= 1
    return tree.text


def check_markdown(page: str) -> None:
    lines = page.splitlines()
    known = r"|# .*|## .*|### .*|\$.*\$|- [✓✗] .*|\d+ claims?: .*\."
    assert [line for line in lines if not re.fullmatch(known, line)] == []
    assert all(line.isprintable() for line in lines)
    spans = [span for line in lines for span in re.findall(r"(?<!\\)`([^`]*)`", line)]
    assert all(re.fullmatch(r"[\w.,\[\] -]+", span) for span in spans)
    prose = re.sub(r"(?<!\\)`[^`]*`", "", page)
    assert not re.search(r"<|(?<!\\)[|`]|(?<!\\)\]\(|://|(?<!\\)&(?!(amp|lt|gt);| )", re.sub(r"\\\\", "", prose))
    assert all(len(re.findall(r"\$", re.sub(r"\\.", "", line))) % 2 == 0 for line in lines)


OURS = {  # what the pages are made of, beside symbols
    *(
        "documentclass",
        "usepackage",
        "allowdisplaybreaks",
        "begin",
        "end",
        "title",
        "date",
        "maketitle",
        "item",
        "section",
    ),
    *("subsection", "providecommand", "lt", "gt", "texttt", "textbackslash", "textless", "textgreater", "textbar"),
    *(
        "textasciigrave",
        "checkmark",
        "times",
        "quad",
        "cdots",
        "ldots",
        "frac",
        "partial",
        "sum",
        "left",
        "right",
        "top",
    ),
    *("leftarrow", "Rightarrow", "to", "approx", "cdot", "delta", "Delta", "Phi", "eta", "text", "tanh", "infty"),
    *("cr", "vdots", "underbrace", "sqrt", "sin", "cos", "in", "le", "ne"),
}


def check_latex(page: str) -> None:
    assert all(line.isprintable() for line in page.splitlines())
    commands = set(re.findall(r"\\([A-Za-z]+|.)", page, re.DOTALL))
    assert commands <= OURS | {*SIGNS, *ACCENTS, *FONTS.values()} | set("_#$%&{}^~\\[],;")
    bare = re.sub(r"\\[^A-Za-z]", "", page)
    depth = np.cumsum([{"{": 1, "}": -1}.get(c, 0) for c in bare])
    assert depth.min() >= 0
    assert depth[-1] == 0
    assert not re.search(r"[%#~`|<>]|\^\^", bare.partition(r"\begin{document}")[2])
    assert all(line.startswith("  ") or r"\begin{bmatrix}" in line for line in bare.splitlines() if "&" in line)
    assert all(line.count("$") % 2 == 0 for line in bare.splitlines())
    environments = re.findall(r"\\(begin|end){([^}]*)}", page)
    assert {name for _, name in environments} <= {"document", "align*", "itemize", "bmatrix"}
    assert environments[-1] == ("end", "document")
    assert environments.count(("end", "document")) == 1


@settings(
    max_examples=15, deadline=None, derandomize=True, phases=[Phase.generate], suppress_health_check=list(HealthCheck)
)
@given(UNITS, HOSTILE, HOSTILE, HOSTILE, HOSTILE, st.sampled_from([None, "o", "a.{}[0]", "W.{}.x", "h.{}", "{}"]))
def test_hostile_text_is_text_in_every_format(unit, activation, loss, place, symbol, named):
    unit = "u" if unit in ("x", "bias", "shared") else unit
    claims = {f"a.{unit}[0]": {place: ["9", f"2*h.{unit}[0]"]}, f"h.{unit}[0]": f"a.{unit}[0]"}
    names = {} if named in (None, "o") else {named.format(unit): symbol}
    try:
        parse_symbol(symbol)
    except SymbolError as refused:
        with pytest.raises(ValueError, match=re.escape(str(refused))):
            explained(unit, names={"x": symbol})
        names = {}
    work = explained(unit, activation, loss, claims=claims, names=names, learning_rate=0.1)
    text = check_html(work.html(place))
    check_html(fragment(work))
    assert all(visible(written) in text for written in (unit, activation, loss, place))
    check_markdown(work.markdown())
    check_latex(work.latex())
    assert all(line.isprintable() for line in str(work).splitlines())
    assert all(visible(written) in str(work) for written in (unit, activation, loss, place))


def test_hostile_names_are_text_in_matrices_and_attention_too():
    place = "<script>'\"$\\input{x}|`&lt;"
    q, k, v, mix, m = (f"{role}{place}" for role in "qkvam")
    rows = (2, 2)
    x = {q: np.eye(2), k: np.ones(rows), v: np.eye(2), m: np.array([1.0, 0.0])}
    attention = jaxbp.attention(q, k, v, rows, causal=True, mask=m, rotary=10.0)
    net = jaxbp.Network({q: rows, k: rows, v: rows, m: (2,)}, {mix: attention})
    claims = {f"scores.{mix}[0, 0]": {place: "9"}, f"Delta_weights.{mix}[1, 1]": f"delta.{mix}[1, 1]"}
    work = jaxbp.explain(net, jaxbp.squared_error, {mix: {}}, x, np.ones(rows), claims=claims)
    text = check_html(work.html(place))
    check_html(fragment(work))
    assert all(visible(written) in text for written in (q, k, v, mix, m, place))
    check_markdown(work.markdown())
    check_latex(work.latex())
    assert all(line.isprintable() for line in str(work).splitlines())


@pytest.mark.parametrize("name", [*FRAGMENTS, "layer-1", "in_2", "100%", "σ"])
def test_a_word_is_inert_in_maths(name):
    latex = upright(name)
    assert not re.search(r"[<>`|]|\]\(", latex)
    assert set(re.findall(r"\\([A-Za-z]+)", latex)) <= {*SIGNS, "mathrm", "text"}
    check_html(mathml(latex).elements)

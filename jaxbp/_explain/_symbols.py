r"""Symbols: the names that people give to quantities, read once into a small tree and printed from it.

What they write is LaTeX notation, of which this much is read: letters, digits and other signs as themselves, groups in
braces, `_` and `^` with one thing each, primes, the commands of `SIGNS`, accents as in `\hat y`, and fonts as in
`\mathrm{in}`. A page that is typeset from such a tree holds no command that is not listed here.
"""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from jaxbp._explain._escaping import visible

LONGEST = 200
DEEPEST = 10

SIGNS = {
    "alpha": "α", "beta": "β", "gamma": "γ", "delta": "δ", "epsilon": "ε", "varepsilon": "ϵ", "zeta": "ζ", "eta": "η",
    "theta": "θ", "vartheta": "ϑ", "iota": "ι", "kappa": "κ", "lambda": "λ", "mu": "μ", "nu": "ν", "xi": "ξ", "pi": "π",
    "rho": "ρ", "sigma": "σ", "varsigma": "ς", "tau": "τ", "upsilon": "υ", "phi": "φ", "varphi": "ϕ", "chi": "χ",
    "psi": "ψ", "omega": "ω", "Gamma": "Γ", "Delta": "Δ", "Theta": "Θ", "Lambda": "Λ", "Xi": "Ξ", "Pi": "Π",
    "Sigma": "Σ", "Upsilon": "Υ", "Phi": "Φ", "Psi": "Ψ", "Omega": "Ω", "partial": "∂", "nabla": "∇", "ell": "ℓ",
    "infty": "∞", "sum": "∑", "prod": "∏", "to": "→", "rightarrow": "→", "leftarrow": "←", "cdot": "·", "times": "×",
    "odot": "⊙", "otimes": "⊗", "oplus": "⊕", "circ": "∘", "bullet": "•", "ast": "∗", "star": "⋆", "dagger": "†",
    "pm": "±", "top": "⊤", "bot": "⊥", "perp": "⊥", "prime": "′", "ldots": "…", "cdots": "⋯",
    # what would mean something to LaTeX or to Markdown if it were written plainly
    "backslash": "\\", "wedge": "^", "sim": "~", "lt": "<", "gt": ">", "vert": "|", "backprime": "`",
}  # fmt: skip
ACCENTS = {  # each with the character that does the same to the letter before it
    "hat": "\u0302", "widehat": "\u0302", "tilde": "\u0303", "widetilde": "\u0303", "bar": "\u0304",
    "overline": "\u0304", "breve": "\u0306", "dot": "\u0307", "ddot": "\u0308", "check": "\u030c", "vec": "\u20d7",
}  # fmt: skip
FONTS = {  # each with the command that is printed for it
    **{font: font for font in ("mathrm", "mathbf", "mathit", "mathsf", "mathtt", "mathcal", "mathbb", "boldsymbol")},
    "text": "mathrm", "textrm": "mathrm", "operatorname": "mathrm", "textbf": "mathbf", "textit": "mathit",
}  # fmt: skip

_LONGEST_COMMAND = 1 + max(map(len, SIGNS))
_COMMAND_OF = {sign: command for command, sign in reversed(SIGNS.items())} | {"*": "ast", "'": "prime"}
_ESCAPED = "_#$%&{}"
_SPACES = (r"\ ", r"\,", r"\:", r"\;")
_SPACED = ("→", "←")
_SUPERSCRIPTS = str.maketrans("0123456789()+-−=n′", "⁰¹²³⁴⁵⁶⁷⁸⁹⁽⁾⁺⁻⁻⁼ⁿ′")
_SUBSCRIPTS = str.maketrans("0123456789()+-−=", "₀₁₂₃₄₅₆₇₈₉₍₎₊₋₋₌")


@dataclass(frozen=True)
class Sign:
    """One character, whatever it is, as itself."""

    character: str


@dataclass(frozen=True)
class Group:
    """Several symbols as one."""

    parts: tuple["Symbol", ...]


@dataclass(frozen=True)
class Styled:
    """A symbol under an accent or in a font."""

    command: str
    content: "Symbol"


@dataclass(frozen=True)
class Scripts:
    """A symbol with others above and below to the right of it."""

    base: "Symbol"
    above: "Symbol | None" = None
    below: "Symbol | None" = None


Symbol: TypeAlias = Sign | Group | Styled | Scripts


class SymbolError(ValueError):
    """A text that is no symbol; the message is the end of a sentence, "… is no symbol: it holds '}' without '{'"."""


def parse_symbol(text: str) -> Symbol:
    r"""A symbol in LaTeX notation, such as `w_{10}`, `z^{(4)}` or `\hat y`; anything else is a SymbolError."""
    if len(text) > LONGEST:
        raise SymbolError(f"is no symbol: it is {len(text)} characters long, and {LONGEST} are allowed")
    symbol = _Parser(_tokens(text)).sequence(0)
    if not in_text(symbol).strip():
        raise SymbolError("is no symbol: it shows nothing")
    return symbol


def literal(text: str) -> Symbol:
    """A word as it is, upright; a single letter stays a variable."""
    return Sign(text) if len(text) == 1 and text.isalnum() else Styled("mathrm", word(visible(text)))


def grouped(*parts: Symbol) -> Group:
    """Several symbols as one, without the braces of those that are groups themselves."""
    return Group(tuple(inner for part in parts for inner in (part.parts if isinstance(part, Group) else (part,))))


def word(text: str) -> Group:
    """Characters as they are, in the font of a variable."""
    return Group(tuple(map(Sign, text)))


def scripted(base: Symbol, above: Symbol | None = None, below: Symbol | None = None) -> Symbol:
    """A symbol with scripts, beside those that it has."""
    if isinstance(base, Scripts) and not (above and base.above) and not (below and base.below):
        return Scripts(base.base, above or base.above, below or base.below)
    return Scripts(base, above, below) if above or below else base


def in_latex(symbol: Symbol) -> str:
    """A symbol as LaTeX maths."""
    match symbol:
        case Sign(character):
            return _sign(character)
        case Group(parts):
            return _side_by_side([_within(part) for part in parts])
        case Styled(command, content):
            return rf"\{command}{{{in_latex(content)}}}"
        case Scripts(base, above, below):
            whole = in_latex(base) if isinstance(base, Sign | Styled) else f"{{{in_latex(base)}}}"
            return whole + _script_in_latex("^", above) + _script_in_latex("_", below)


def in_text(symbol: Symbol) -> str:
    r"""A symbol in Unicode: `\hat{y}_1` becomes ŷ₁, and what Unicode lacks stays readable."""
    match symbol:
        case Sign(character):
            return f" {character} " if character in _SPACED else character
        case Group(parts):
            return "".join(map(in_text, parts))
        case Styled(command, content):
            inner = in_text(content)
            if command not in ACCENTS:
                return inner
            short = len(inner) == 1 and inner.isalnum()
            return unicodedata.normalize("NFC", inner + ACCENTS[command]) if short else f"{command}({inner})"
        case Scripts(base, above, below):
            raised = "" if above is None else _script_in_text(in_text(above), _SUPERSCRIPTS, "^")
            return in_text(base) + raised + ("" if below is None else _script_in_text(in_text(below), _SUBSCRIPTS, "_"))


def upright(name: str) -> str:
    """A word in LaTeX maths; a single letter stays a variable."""
    return in_latex(literal(name))


def _sign(character: str) -> str:
    if character in _ESCAPED:
        return f"\\{character}"
    if character in _COMMAND_OF:
        command = rf"\{_COMMAND_OF[character]}"
        return f" {command} " if character in _SPACED else command
    plain = {" ": r"\;", "−": "-"}.get(character, character)
    return plain if plain.isascii() else rf"\text{{{plain}}}"


def _within(part: Symbol) -> str:
    """A symbol among others: a group keeps its braces."""
    return f"{{{in_latex(part)}}}" if isinstance(part, Group) else in_latex(part)


# a letter would become a part of the command before it; the others are links in Markdown
_APART = re.compile(r"\\[A-Za-z]+\n[A-Za-z]|\]\n\(|:\n/|www\n\.")


def _side_by_side(parts: Sequence[str]) -> str:
    whole = ""
    for part in parts:
        seam = whole[-_LONGEST_COMMAND:] + "\n" + part[:1]
        whole += f" {part}" if _APART.search(seam) else part
    return re.sub(" +", " ", whole).strip()


def _script_in_latex(mark: str, script: Symbol | None) -> str:
    if script is None:
        return ""
    text = in_latex(script)
    bare = isinstance(script, Sign) and re.fullmatch(r"\w|\\[A-Za-z]+", text, re.ASCII)
    return f"{mark}{text}" if bare else f"{mark}{{{text}}}"


def _script_in_text(content: str, table: Mapping[int, Any], mark: str) -> str:
    if all(ord(character) in table for character in content):
        return content.translate(table)
    return content if content.startswith("[") else f"{mark}{content}" if len(content) == 1 else f"{mark}({content})"


_TOKEN = re.compile(r"\\[A-Za-z]+|\\.|.", re.DOTALL)


def _tokens(text: str) -> list[str]:
    found: list[str] = _TOKEN.findall(text)
    # a space says something between two words, and nothing beside a command or a brace
    kept = [
        token
        for before, token, after in zip(["", *found], found, [*found[1:], ""], strict=False)
        if not token.isspace() or (before.isalnum() and after.isalnum())
    ]
    for token in kept:
        if token == "\\":
            raise SymbolError(r"is no symbol: it ends in a '\'")
        if token == "$":
            raise SymbolError("is no symbol: leave the dollar signs out")
        if not token.isprintable():
            raise SymbolError(f"is no symbol: it holds the character {token!r}, which cannot be printed")
    return kept


@dataclass
class _Parser:
    """Reads tokens from the first to the last."""

    tokens: Sequence[str]
    at: int = 0

    def sequence(self, depth: int) -> Symbol:
        """All symbols up to the end, or to the brace that closes this group."""
        parts: list[Symbol] = []
        while self.at < len(self.tokens) and (depth == 0 or self.tokens[self.at] != "}"):
            token = self.tokens[self.at]
            if token in "^_'":
                base = parts.pop() if parts else None
                parts.append(self._with_script(base, depth))
            else:
                parts.append(self._one(depth))
        return parts[0] if len(parts) == 1 else Group(tuple(parts))

    def _with_script(self, base: Symbol | None, depth: int) -> Symbol:
        mark = self.tokens[self.at]
        if base is None:
            raise SymbolError(f"is no symbol: there is nothing before {mark!r}")
        self.at += 1
        has = base if isinstance(base, Scripts) else Scripts(base)
        if mark == "'":
            return replace(has, above=grouped(*filter(None, [has.above]), Sign("′")))
        primes = isinstance(has.above, Group) and set(has.above.parts) == {Sign("′")}
        if (has.below if mark == "_" else None if primes else has.above) is not None:
            kind = "below" if mark == "_" else "above"
            raise SymbolError(f"is no symbol: two things stand {kind} the same one; put the first into braces")
        if self.at == len(self.tokens) or self.tokens[self.at] in "}^_'":
            raise SymbolError(f"is no symbol: there is nothing after {mark!r}")
        script = self._one(depth)
        if mark == "_":
            return replace(has, below=script)
        return replace(has, above=grouped(has.above, script) if has.above is not None else script)

    def _one(self, depth: int) -> Symbol:
        """The next symbol without its scripts."""
        if depth > DEEPEST:
            raise SymbolError(f"is no symbol: it is nested more than {DEEPEST} deep")
        token = self.tokens[self.at]
        self.at += 1
        if token == "}":
            raise SymbolError("is no symbol: it holds '}' without '{'")
        if token == "{":
            inner = self.sequence(depth + 1)
            if self.at == len(self.tokens):
                raise SymbolError("is no symbol: it holds '{' without '}'")
            self.at += 1
            return inner if isinstance(inner, Group) else Group((inner,))
        if not token.startswith("\\"):
            return Sign(token)
        command = token[1:]
        if token in _SPACES or command in _ESCAPED:
            return Sign(" " if token in _SPACES else command)
        if command in SIGNS:
            return Sign(SIGNS[command])
        if command in ACCENTS or command in FONTS:
            if self.at == len(self.tokens) or self.tokens[self.at] in "}^_'":
                raise SymbolError(f"is no symbol: there is nothing after {token!r}")
            return Styled(FONTS.get(command, command), self._one(depth + 1))
        raise SymbolError(
            f"is no symbol: it uses {token}; a symbol is made of letters, digits, "
            r"scripts as in w_{10}, Greek letters as in \alpha, accents as in \hat{y} and fonts as in \mathrm{in}"
        )

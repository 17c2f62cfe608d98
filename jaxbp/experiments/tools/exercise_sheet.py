"""A sheet with blanks and its solution, as Markdown and as LaTeX: the same blocks in two dialects."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxbp.experiments.tools.exercise_numbers import DIGITS, Drawn
from jaxbp.experiments.tools.exercise_words import words_in
from jaxbp.experiments.tools.submissions import SEED

_BLANK = r"\underline{\hspace{4em}}"
_SECTIONS = {"a": "forward", "h": "forward", "loss": "forward", "Delta": "backward", "delta": "backward"}
_PHI = {
    "sigmoid": r"\Phi(a) = \frac{1}{1 + e^{-a}}",
    "tanh": r"\Phi(a) = \tanh a = \frac{e^{a} - e^{-a}}{e^{a} + e^{-a}}",
    "relu": r"\Phi(a) = \max(0, a)",
    "linear": r"\Phi(a) = a",
    "softmax": r"\Phi_j(a) = \frac{e^{a_j}}{\sum_i e^{a_i}}",
}
_LOSS = {
    "squared_error": r"L = \frac{1}{2} \sum_j (o_j - y_j)^2",
    "cross_entropy": r"L = -\sum_j y_j \ln o_j",
    "binary_cross_entropy": r"L = -\sum_j \bigl(y_j \ln o_j + (1 - y_j) \ln (1 - o_j)\bigr)",
}


@dataclass(frozen=True)
class _Dialect:
    document: str
    section: str
    step: str
    display: str
    equation: Callable[[tuple[str, ...]], str]  # of its pieces: a symbol, and what it is equal to
    code: str
    plain: Callable[[str], str] = lambda text: text  # words, which may hold the name of a function


_MARKDOWN = _Dialect(
    "# {title}\n\n{body}\n", "## %s", "### %s (%s)", "$$%s$$", lambda pieces: f"$${' '.join(pieces)}$$", "`%s`"
)
_LATEX = _Dialect(
    r"""\documentclass[a4paper,11pt]{{article}}
\usepackage[utf8]{{inputenc}}
\usepackage[margin=2.2cm]{{geometry}}
\usepackage{{amsmath, amssymb}}
\setlength{{\parindent}}{{0pt}}
\allowdisplaybreaks
\begin{{document}}
\section*{{{title}}}
{body}
\end{{document}}
""",
    r"\subsection*{%s}",
    r"\paragraph{%s} (%s)",
    r"\[ %s \]",
    lambda pieces: _aligned(*pieces),
    r"\texttt{%s}",
    lambda text: text.replace("_", r"\_"),
)


@dataclass(frozen=True)
class Sheet:
    """What is written of one exercise, in the words of one language."""

    exercise: Drawn
    language: str

    @property
    def words(self) -> Mapping[str, str]:
        """What is written in this language."""
        return words_in(self.language)

    @property
    def title(self) -> str:
        """The heading."""
        return self.words["title"].format(seed=self.exercise.seed)

    def markdown(self, solved: bool = False) -> str:
        """The sheet as Markdown with LaTeX maths between dollar signs; solved, each blank is an equation."""
        return self._document(_MARKDOWN, solved)

    def latex(self, solved: bool = False) -> str:
        """The same as a LaTeX document."""
        return self._document(_LATEX, solved)

    def answers(self) -> str:
        """What is handed in: a JSON file with the seed, and null for each number that is asked for, by quantity."""
        lines = (f'  "{step.name}": {json.dumps(_of_none(step.value))}' for step in self._asked())
        return "{\n" + ",\n".join([f'  "{SEED}": {self.exercise.seed}', *lines]) + "\n}\n"

    def problem(self) -> str:
        """The problem file that `python -m experiments.grade` takes: network, numbers, a point for each blank."""
        setting, one = self.exercise.setting, self.exercise
        params = "\n".join(
            f"[params.{u}]\n" + "".join(f"{s} = {json.dumps(W.tolist())}\n" for s, W in weights.items())
            for u, weights in one.params.items()
        )
        points = "".join(f'"{step.name}" = {step.value.size}\n' for step in self._asked())
        return (
            f'loss = "{setting.loss}"\n\n[network]\nlayers = {list(setting.widths)}\nhidden = "{setting.hidden}"\n'
            f'output = "{setting.output}"\n\n[data]\nx = {json.dumps(one.x.tolist())}\n'
            f"y = {json.dumps(one.y.tolist())}\n\n{params}\n[points]\n{points}\n[grading]\ndigits = {DIGITS}\n"
        )

    def _document(self, dialect: _Dialect, solved: bool) -> str:
        title = f"{self.title}: {self.words['solution']}" if solved else self.title
        return dialect.document.format(title=title, body="\n\n".join(self._blocks(dialect, solved)))

    def _blocks(self, dialect: _Dialect, solved: bool) -> Iterator[str]:
        setting, words = self.exercise.setting, self.words
        if not solved:
            named = {key: words[getattr(setting, key)] for key in ("hidden", "output", "loss")}
            widths = "-".join(map(str, setting.widths))
            task = "task" if len(setting.widths) > 2 else "task without hidden"
            yield words[task].format(widths=widths, **named)
            yield words["digits"].format(digits=DIGITS)
            yield words["hand in"]
        section = ""
        for step in self.exercise.work.steps:
            kind, *path = step.name.split(".")
            now = "given" if not step.rule else _SECTIONS.get(kind, "gradients")
            if now != section:
                section = now
                yield dialect.section % words[section]
            yield dialect.step % (dialect.plain(self._title(step, kind, path)), dialect.code % step.name)
            if step.rule:
                yield dialect.display % self._rule(step, kind, path)
            if step.rule and solved:
                yield from (dialect.equation(line.latex) for line in step.equations if line is not None)
            else:
                yield dialect.display % self._array(step, blank=bool(step.rule))

    def _title(self, step: Any, kind: str, path: list[str]) -> str:
        """What a step is about, in the words that its page has."""
        title = step.titled(self.language)
        if kind == "W" and path[-1] != "bias":
            return self.words["rows"].format(weights=title, source=path[-1])
        return title

    def _rule(self, step: Any, kind: str, path: list[str]) -> str:
        """The rule of a step, with what the activation and the loss are."""
        setting = self.exercise.setting
        if kind == "loss":
            return _LOSS[setting.loss]
        if kind == "h":
            return f"{step.rule}, \\quad {_PHI[setting.output if path[0] == setting.net.output else setting.hidden]}"
        return step.rule

    def _array(self, step: Any, blank: bool) -> str:
        """A whole array after its symbol: its numbers, or a blank for each."""
        quantity, latex = step.equations[0].quantity, self.exercise.work.typesetting.latex
        entries = [[_BLANK if blank else latex.number(value) for value in row] for row in np.atleast_2d(step.value)]
        if step.value.ndim == 0:
            return f"{latex(quantity)} = {entries[0][0]}"
        # Markdown would take two backslashes at the end of a row for one
        rows = r" \cr ".join(" & ".join(row) for row in entries)
        return rf"{latex(quantity.whole)} = \begin{{bmatrix}} {rows} \end{{bmatrix}}"

    def _asked(self) -> list[Any]:
        return [step for step in self.exercise.work.steps if step.rule]


def _aligned(symbol: str, *pieces: str) -> str:
    """An equation in LaTeX, in lines: in symbols, and below that with numbers, which together are wider than a page."""
    *forms, numbers, result = ("", *pieces)
    lines = [*filter(None, forms), f"{numbers} {result}"]
    below = " \\\\\n".join(f"  &{line}" for line in lines)
    return f"\\begin{{align*}}\n  {symbol} {below.lstrip()}\n\\end{{align*}}"


def _of_none(array: np.ndarray) -> Any:
    return np.full(array.shape, None).tolist()

"""The words of a sheet in each language, but for the titles of steps, which those of an explanation say."""

from jaxbp.experiments.common.messages import quoted, suggestion

_ENGLISH = {
    "title": "Backpropagation, exercise {seed}",
    "solution": "Solution",
    "task": "The network has layers of {widths} units, input first. Its hidden units are {hidden}, its output is "
    "{output}, and the loss is the {loss}. Take one forward and one backward step by hand and fill in all blanks.",
    "task without hidden": "The network has layers of {widths} units, input first. Its output is {output}, and the "
    "loss is the {loss}. Take one forward and one backward step by hand and fill in all blanks.",
    "digits": "Write {digits} significant digits. Each line follows from the numbers in those before it.",
    "hand in": "To hand in: put your numbers into answers.json, in the place of null.",
    "given": "Given",
    "forward": "Forward",
    "backward": "Backward",
    "gradients": "Gradients",
    "rows": "{weights}, a row for each element of {source}",
    "sigmoid": "sigmoid",
    "tanh": "tanh",
    "relu": "ReLU",
    "linear": "linear",
    "softmax": "softmax",
    "squared_error": "squared error",
    "cross_entropy": "cross-entropy",
    "binary_cross_entropy": "binary cross-entropy",
}
_GERMAN = {
    "title": "Backpropagation, Aufgabe {seed}",
    "solution": "Lösung",
    "task": "Das Netz hat Schichten aus {widths} Einheiten, die Eingabe zuerst. Die versteckten Einheiten sind "
    "{hidden}, die Ausgabe ist {output}, und der Verlust ist {loss}. Rechnen Sie einen Schritt vorwärts und einen "
    "rückwärts von Hand und füllen Sie alle Lücken aus.",
    "task without hidden": "Das Netz hat Schichten aus {widths} Einheiten, die Eingabe zuerst. Die Ausgabe ist "
    "{output}, und der Verlust ist {loss}. Rechnen Sie einen Schritt vorwärts und einen rückwärts von Hand und füllen "
    "Sie alle Lücken aus.",
    "digits": "Schreiben Sie {digits} gültige Ziffern. Jede Zeile folgt aus den Zahlen der Zeilen vor ihr.",
    "hand in": "Zum Abgeben: Tragen Sie Ihre Zahlen in answers.json ein, an der Stelle von null.",
    "given": "Gegeben",
    "forward": "Vorwärts",
    "backward": "Rückwärts",
    "gradients": "Gradienten",
    "rows": "{weights}, eine Zeile für jedes Element von {source}",
    "sigmoid": "Sigmoid",
    "tanh": "tanh",
    "relu": "ReLU",
    "linear": "linear",
    "softmax": "Softmax",
    "squared_error": "der quadratische Fehler",
    "cross_entropy": "die Kreuzentropie",
    "binary_cross_entropy": "die binäre Kreuzentropie",
}

WORDS = {"en": _ENGLISH, "de": _GERMAN}
"""What is written on a sheet, by language."""


def words_in(language: str) -> dict[str, str]:
    """The words of a language.

    Raises:
        ValueError: There are none; the message lists the languages that there are.
    """
    if language not in WORDS:
        raise ValueError(
            f"--language is {language!r}{suggestion(language, WORDS)}; sheets are written in {quoted(WORDS)}"
        )
    return WORDS[language]

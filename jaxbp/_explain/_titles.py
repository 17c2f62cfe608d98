"""Titles of steps: English words and what they are about, and the same in other languages."""

from collections.abc import Mapping
from dataclasses import dataclass

from jaxbp._graph import ONE
from jaxbp._plan import Edge


@dataclass(frozen=True)
class Title:
    """English words, with `{}` for each part: a title itself, or a name, which is the same in every language."""

    english: str
    parts: tuple["Title | str", ...] = ()

    def said(self, language: str = "en") -> str:
        """The title in a language; a name that has no words there, of somebody's own loss, is itself."""
        words = TITLES[language].get(self.english, self.english)
        parts = (part.said(language) if isinstance(part, Title) else part for part in self.parts)
        return words.format(*parts) if self.parts else words


TITLE = Title("Backpropagation, step by step")
"""Of a page that nobody has given one."""


def in_layer(name: str, layer: tuple[int, ...]) -> Title | str:
    """Something of one layer of a stack, or of no stack."""
    return _of_layer(name, layer) if layer else name


def title_of_weights(kind: str, name: str, edges: tuple[Edge, ...], layer: tuple[int, ...]) -> Title:
    """Of weights, their gradient or their update: which they are, by the connections that use them."""
    start = {"W": "", "grad": "Gradient of the ", "updated": "Update of the "}[kind]
    if edges[0].is_shared:
        title = Title(_capital(f"{start}shared weights {{}}, {{}}"), (name, _together(edges)))
    elif edges[0].source == ONE:
        title = Title(_capital(f"{start}bias of {{}}"), (edges[0].unit,))
    else:
        title = Title(_capital(f"{start}weights from {{}} to {{}}"), (edges[0].source, edges[0].unit))
    if layer:
        return _of_layer(title, layer)
    return Title("{} in all layers", (title,)) if edges[0].layers else title


def _of_layer(part: Title | str, layer: tuple[int, ...]) -> Title:
    return Title("{} in layer {}", (part, ", ".join(map(str, layer))))


def _together(edges: tuple[Edge, ...]) -> Title:
    *before, last = edges
    place = Title("bias of {}", (last.unit,)) if last.source == ONE else Title("{} to {}", (last.source, last.unit))
    return Title("{} and {}", (_together(tuple(before)), place)) if before else place


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


_GERMAN = {
    "Backpropagation, step by step": "Backpropagation, Schritt für Schritt",
    "{} in layer {}": "{} in Schicht {}",
    "{} in all layers": "{} in allen Schichten",
    "{} and {}": "{} und {}",
    "{} to {}": "{} nach {}",
    "bias of {}": "Bias von {}",
    "Input {}": "Eingabe {}",
    "Target": "Zielwert",
    "Learning rate": "Lernrate",
    "Weights from {} to {}": "Gewichte von {} nach {}",
    "Bias of {}": "Bias von {}",
    "Shared weights {}, {}": "Gemeinsame Gewichte {}, {}",
    "{}; the rows that are looked up": "{}; die Zeilen, die nachgeschlagen werden",
    "Pre-activation of {}": "Voraktivierung von {}",
    "Activation of {}, {}": "Aktivierung von {}, {}",
    "Loss": "Verlust",
    "Loss, {}": "Verlust, {}",
    "Loss, the mean over {} examples": "Verlust, im Mittel über {} Beispiele",
    "Error signal at the input {}": "Fehlersignal an der Eingabe {}",
    "Error signal at the output of {}": "Fehlersignal am Ausgang von {}",
    "Error signal at the pre-activation of {}": "Fehlersignal an der Voraktivierung von {}",
    "Gradient of the weights from {} to {}": "Gradient der Gewichte von {} nach {}",
    "Gradient of the bias of {}": "Gradient des Bias von {}",
    "Gradient of the shared weights {}, {}": "Gradient der gemeinsamen Gewichte {}, {}",
    "{}; it is 0 in the rows that are not looked up": "{}; er ist 0 in den Zeilen, die nicht nachgeschlagen werden",
    "Update of the weights from {} to {}": "Schritt der Gewichte von {} nach {}",
    "Update of the bias of {}": "Schritt des Bias von {}",
    "Update of the shared weights {}, {}": "Schritt der gemeinsamen Gewichte {}, {}",
    "{}; nothing changes in the rows that are not looked up": "{}; in den Zeilen, die nicht nachgeschlagen werden, "
    "ändert sich nichts",
    "Layer {} of {}, left out": "Schicht {} von {}, ausgelassen",
    "Layers {} to {} of {}, left out": "Schichten {} bis {} von {}, ausgelassen",
    "Queries of {}, turned by their positions": "Anfragen von {}, um ihre Positionen gedreht",
    "Keys of {}, turned by their positions": "Schlüssel von {}, um ihre Positionen gedreht",
    "Scores of {}": "Scores von {}",
    "Mask of {}, 1 where a row sees a key": "Maske von {}, 1 wo eine Zeile einen Schlüssel sieht",
    "Weights of {}, softmax of the scores": "Gewichte von {}, Softmax der Scores",
    "Error signal at the weights of {}": "Fehlersignal an den Gewichten von {}",
    "Error signal at the scores of {}, back through softmax": "Fehlersignal an den Scores von {}, zurück durch Softmax",
    "Error signal at the turned queries of {}": "Fehlersignal an den gedrehten Anfragen von {}",
    "Error signal at the turned keys of {}": "Fehlersignal an den gedrehten Schlüsseln von {}",
    "Mean of the pre-activation of {}": "Mittelwert der Voraktivierung von {}",
    "Standard deviation of the pre-activation of {}": "Standardabweichung der Voraktivierung von {}",
    "Root mean square of the pre-activation of {}": "Quadratisches Mittel der Voraktivierung von {}",
    "Mean of the error signal at the output of {}": "Mittelwert des Fehlersignals am Ausgang von {}",
    "Mean of activation times error signal of {}": "Mittelwert von Aktivierung mal Fehlersignal von {}",
    "squared_error": "quadratischer Fehler",
    "cross_entropy": "Kreuzentropie",
    "binary_cross_entropy": "binäre Kreuzentropie",
    "perceptron": "Perzeptron",
}

TITLES: Mapping[str, Mapping[str, str]] = {"en": {}, "de": _GERMAN}
"""Words of titles by language, with the English ones as keys."""

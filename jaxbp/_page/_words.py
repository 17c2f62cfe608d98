"""The words of a page by language: what its script says, with English words as keys, and the titles of its steps."""

import re
from collections.abc import Mapping

_GERMAN = {
    "Forward": "Vorwärts",
    "Loss": "Verlust",
    "Backward": "Rückwärts",
    "Gradients": "Gradienten",
    "Update": "Schritt",
    "Steps": "Rechenschritte",
    "Phases": "Phasen",
    "Step": "Rechenschritt",
    "Step {0} of {1}": "Rechenschritt {0} von {1}",
    "{0} of {1}": "{0} von {1}",
    "of {0}": "von {0}",
    "First step": "Erster Rechenschritt",
    "Previous step": "Voriger Rechenschritt",
    "Next step": "Nächster Rechenschritt",
    "Last step": "Letzter Rechenschritt",
    "Current step": "Jetziger Rechenschritt",
    "All steps": "Alle Rechenschritte",
    "Example": "Beispiel",
    "Fill in": "Auszufüllen:",
    "nothing": "nichts",
    "numbers": "Zahlen",
    "formulas": "Formeln",
    "Copy link": "Link kopieren",
    "Save": "Speichern",
    "Open": "Öffnen",
    "Opened.": "Geöffnet.",
    "Saved as {0}.": "Gespeichert als {0}.",
    "A file that was saved here": "Eine hier gespeicherte Datei",
    "This is no file that such a page has saved.": "Das ist keine Datei, die eine solche Seite gespeichert hat.",
    "This file is of a page with another network.": "Diese Datei gehört zu einer Seite mit einem anderen Netz.",
    "The link is in the address bar.": "Der Link steht in der Adresszeile.",
    "What was changed is too much for a link of {0} characters: save it as a file.": "Für einen Link von {0} Zeichen "
    "ist zu viel geändert: speichern Sie es als Datei.",
    "Drawing": "Zeichnung",
    "Drawing of the network": "Zeichnung des Netzes",
    "The network": "Das Netz",
    "Now": "Jetzt",
    "forward: a, h": "vorwärts: a, h",
    "backward: Δ, δ, ∂L/∂W": "rückwärts: Δ, δ, ∂L/∂W",
    "update": "Schritt",
    "mean": "Mittel",
    "at most {0}": "höchstens {0}",
    "Numbers": "Zahlen",
    "Numbers that can be changed": "Zahlen, die man ändern kann",
    "Change a number, or drag its symbol to the left or right; everything that follows changes at once.": "Ändern Sie "
    "eine Zahl, oder ziehen Sie ihr Zeichen nach links oder rechts; alles, was folgt, ändert sich sofort.",
    "Reset": "Zurücksetzen:",
    "Reset all": "Alle zurücksetzen",
    "Element": "Element",
    "Elements": "Elemente",
    "Heat map of {0}": "{0} in Farben",
    "{0}: a heat map of {1} by {2}, at most {3}": "{0}: {1} mal {2} in Farben, höchstens {3}",
    "their products": "ihre Produkte",
    "Learning": "Lernen",
    "Learning rate η": "Lernrate η",
    "Take a step": "Ein Schritt",
    "Take 10": "10 Schritte",
    "Loss now:": "Verlust jetzt:",
    "Loss now, the mean over {0} examples:": "Verlust jetzt, im Mittel über {0} Beispiele:",
    "steps: {0}, from {1}": "Schritte: {0}, von {1} an",
    "The loss goes from {0} to {1}": "Der Verlust geht von {0} auf {1}",
    "Claims": "Behauptungen",
    "Table of claims": "Tabelle der Behauptungen",
    "{0} right, {1} wrong": "{0} richtig, {1} falsch",
    "verdict": "Urteil",
    "where": "wo",
    "claimed": "behauptet",
    "right": "richtig",
    "wrong": "falsch",
    "not judged at other numbers": "bei anderen Zahlen nicht beurteilt",
    "here, but not at other numbers": "hier, aber nicht bei anderen Zahlen",
    "this follows from the numbers claimed before": "das folgt aus den zuvor behaupteten Zahlen",
    "The rule": "Die Regel",
    "Quantity": "Größe",
    "Formula": "Formel",
    "to be filled in": "auszufüllen",
    "The number of {0}": "Die Zahl für {0}",
    "The formula of {0}": "Die Formel für {0}",
    "a number or a formula": "eine Zahl oder eine Formel",
    "e.g. {0}": "z. B. {0}",
    "Check": "Prüfen",
    "Show": "Zeigen",
    "Right.": "Richtig.",
    "Not right.": "Nicht richtig.",
    "It gives {0}.": "Das ergibt {0}.",
    "Look at the rule above, and at what is highlighted in the drawing: that flows in.": "Sehen Sie sich die Regel "
    "oben an, und was in der Zeichnung hervorgehoben ist: das geht ein.",
    "The numbers of this page cannot be changed: they decide which keys a row of attention sees.": "Die Zahlen dieser "
    "Seite kann man nicht ändern: sie entscheiden, welche Schlüssel eine Zeile der Attention sieht.",
    "There is no formula for {0}: what follows is unknown, {1}, where a change reaches it.": "Für {0} gibt es keine "
    "Formel: was folgt, ist unbekannt, {1}, wo eine Änderung hinreicht.",
    "a {0} is missing": "es fehlt {0}",
    "it ends too early": "das endet zu früh",
    "{0} does not belong there": "{0} gehört nicht dorthin",
    "{0} is none of {1}": "{0} ist keines von {1}",
    "{0} is no quantity of this page": "{0} ist keine Größe dieser Seite",
    "This cannot be read as a number or a formula: {0}.": "Das ist weder als Zahl noch als Formel zu lesen: {0}.",
    "The number is right; what is asked for here is the formula.": "Die Zahl stimmt; gefragt ist hier die Formel.",
    "This is the quantity itself; say what it is made of.": "Das ist die Größe selbst; sagen Sie, woraus sie besteht.",
    "This holds at these numbers, but not at others.": "Das gilt bei diesen Zahlen, aber nicht bei anderen.",
    "This follows from what was filled in before: look for the mistake there.": "Das folgt aus dem, was zuvor "
    "ausgefüllt wurde: suchen Sie den Fehler dort.",
    "Close: probably rounded too early. Carry more digits.": "Fast: wohl zu früh gerundet. Rechnen Sie mit mehr "
    "Ziffern.",
    "The sign is wrong.": "Das Vorzeichen ist falsch.",
    "Φ′ is left out: this is Δ. The step from Δ to δ multiplies by the derivative of the activation.": "Φ′ fehlt: das "
    "ist Δ. Von Δ zu δ kommt man durch Malnehmen mit der Ableitung der Aktivierung.",
    "Φ′ is left out: Δ stands where δ belongs. First go from Δ to δ.": "Φ′ fehlt: Δ steht, wo δ hingehört. Gehen Sie "
    "erst von Δ zu δ.",
    "The derivative of the activation is taken at the wrong place: a stands where h belongs.": "Die Ableitung der "
    "Aktivierung ist an der falschen Stelle genommen: a steht, wo h hingehört.",
    "This is the pre-activation a: the activation is still to be applied.": "Das ist die Voraktivierung a: die "
    "Aktivierung ist noch anzuwenden.",
    "The pre-activation a of the layer before is used where its activation h belongs.": "Die Voraktivierung a der "
    "Schicht davor steht, wo ihre Aktivierung h hingehört.",
    "The pre-activation a is used where the activation h belongs.": "Die Voraktivierung a steht, wo die Aktivierung h "
    "hingehört.",
    "The matrix is transposed: row and column of W are swapped.": "Die Matrix ist transponiert: Zeile und Spalte von W "
    "sind vertauscht.",
    "The gradient is transposed: h belongs to the row, δ to the column.": "Der Gradient ist transponiert: h gehört zur "
    "Zeile, δ zur Spalte.",
    "The step leads uphill: the gradient is subtracted.": "Der Schritt führt bergauf: der Gradient wird abgezogen.",
    "The learning rate η is left out.": "Die Lernrate η fehlt.",
    "This is only the step η ∂L/∂W: it is subtracted from the weight.": "Das ist nur der Schritt η ∂L/∂W: er wird vom "
    "Gewicht abgezogen.",
    "This is only the step −η ∂L/∂W: the weight itself is missing.": "Das ist nur der Schritt −η ∂L/∂W: das Gewicht "
    "selbst fehlt.",
    "The bias is left out.": "Der Bias fehlt.",
    "A term is left out: {0}.": "Ein Summand fehlt: {0}.",
    "One sign is wrong: that of {0}.": "Ein Vorzeichen ist falsch: das von {0}.",
    "1/N is left out: the loss is the mean over the examples.": "1/N fehlt: der Verlust ist das Mittel über die "
    "Beispiele.",
    "1/N is there twice: δ has it already.": "1/N steht zweimal da: δ hat es schon.",
    "This is {0}, another element.": "Das ist {0}, ein anderes Element.",
}

_GERMAN_TITLES = {
    "Input {0}": "Eingabe {0}",
    "Target": "Zielwert",
    "Weights from {0} to {1}": "Gewichte von {0} nach {1}",
    "Bias of {0}": "Bias von {0}",
    "Learning rate": "Lernrate",
    "Pre-activation of {0}": "Voraktivierung von {0}",
    "Activation of {0}, {1}": "Aktivierung von {0}, {1}",
    "Loss, {0}": "Verlust, {0}",
    "Loss, the mean over {0} examples": "Verlust, im Mittel über {0} Beispiele",
    "Error signal at the output of {0}": "Fehlersignal am Ausgang von {0}",
    "Error signal at the pre-activation of {0}": "Fehlersignal an der Voraktivierung von {0}",
    "Gradient of the weights from {0} to {1}": "Gradient der Gewichte von {0} nach {1}",
    "Gradient of the bias of {0}": "Gradient des Bias von {0}",
    "Update of the weights from {0} to {1}": "Schritt der Gewichte von {0} nach {1}",
    "Update of the bias of {0}": "Schritt des Bias von {0}",
}

WORDS: Mapping[str, Mapping[str, str]] = {"en": {}, "de": _GERMAN}
"""What the script says, by language."""

TITLES: Mapping[str, Mapping[str, str]] = {"en": {}, "de": _GERMAN_TITLES}
"""Titles of steps, by language; those that are not there stay English."""


def titled(title: str, language: str) -> str:
    """The title of a step in a language."""
    for english, other in TITLES[language].items():
        if found := re.fullmatch(re.sub(r"\\{\d\\}", "(.*?)", re.escape(english)), title):
            return other.format(*found.groups())
    return title

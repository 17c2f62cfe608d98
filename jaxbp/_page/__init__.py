"""The living page of an explanation: its formulas as data, and a script that evaluates and draws them.

There is no second engine. What the page computes are the trees that `jaxbp._explain` makes. `_folding` writes one as
a shape and integers, so that a hundred thousand elements of a weight's gradient are one shape and a few numbers;
`_data` gathers those of all quantities with what is given, the symbols, the steps and the claims; `_document` puts
them into one file with a style and scripts: `engine.js` evaluates trees and `slopes.js` differentiates them,
`maths.js` typesets them, `mistakes.js` judges what is filled in, `drawing.js` draws the network, `state.js` keeps
where the reader is, and `step.js`, `given.js`, `panels.js` and `page.js` are what is on the page.
"""

from jaxbp._page._document import FILL_IN, document
from jaxbp._page._words import WORDS

__all__ = ["FILL_IN", "WORDS", "document"]

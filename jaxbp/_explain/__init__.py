"""A network's own worked example, with its numbers, and the verdict on what others say about it.

A formula is a tree (`_expressions`) over quantities, whose numbers `_numbers` computes in float64. `_equations` writes
the recursions as such trees for single elements, from the closed forms of activations and losses (`_formulas`), the
terms of each connection (`_terms`), and what happens within units (`_within`): attention (`_attention`,
`_attention_forms`), norms (`_norms`) and products (`_products`) have stages (`_stages`). `_steps` puts all of it in
order, as `_work`, with titles in several languages (`_titles`). They work on the network with its stacks written out
(`jaxbp._unrolled`), and call what they show as in the network with stacks. What others claim is read by `_parsing` and
marked by `_claims`. In print, `_notation` finds the symbol of a quantity, which `_symbols` reads and prints,
`_printing` makes text or LaTeX of a formula with as many digits as `_digits` says, `_matrices` of whole arrays, and
`_verdicts` has the words; `_text`, `_markup` and `_html` (with `_mathml` and `_style`) make a page of it all, with
everybody's text through `_escaping`. `_explanation` is what users call.
"""

from jaxbp._explain._claims import Claim
from jaxbp._explain._explanation import Explanation, explain
from jaxbp._explain._work import Equation, Step

__all__ = ["Claim", "Equation", "Explanation", "Step", "explain"]

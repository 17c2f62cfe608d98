"""One module for each claim of the chapter: its words as CLAIM, its options, and a `main` that decides it.

`main` measures, prints to the console that it is given, or else to the terminal, writes plots, and returns a verdict.
`feedback_alignment` decides what others claim of feedback alignment, so it has no CLAIM and `report` leaves it out.
Networks that grow (`growing`) and sawteeth (`sawtooth`, `segments`) are what `depth` needs; `full_batch` trains for it
and for `approximation`; `chapter` and `slides` are the documents that `worked_example` marks; and `dense_form`,
`noisy_digits` and `output_layer` belong to `convolution`, `overfitting` and `softmax_jacobian`.
"""

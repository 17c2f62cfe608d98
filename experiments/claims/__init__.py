"""One module for each claim of the chapter, with the CLAIM, a `main` that measures it and a verdict, and their helpers.

`feedback_alignment` decides what others claim of feedback alignment, so it has no CLAIM and `report` leaves it out.
Networks that grow (`growing`) and sawteeth (`sawtooth`, `segments`) are what `depth` needs; `full_batch` trains for it
and for `approximation`; `chapter` and `slides` are the documents that `worked_example` marks; and `dense_form`,
`noisy_digits` and `output_layer` belong to `convolution`, `overfitting` and `softmax_jacobian`.
"""

"""What a notebook shows of networks, passes, trainings and reports: HTML that needs nothing else, in its own colours.

Each type has a `_repr_html_` that imports its function from here when it is called, so that `import jaxbp` takes no
longer. There are no scripts but treescope's, where that is installed; nothing is loaded, and
what people wrote is text.
"""

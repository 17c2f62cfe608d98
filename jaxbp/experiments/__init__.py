"""What is made with jaxbp: the chapter's claims, benchmarks and tools, and what they share in `common`.

Nothing is imported here, and jaxbp itself imports nothing from here.
"""

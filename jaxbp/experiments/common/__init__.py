"""What claims, benchmarks and tools share: options that are checked, verdicts, a command line, data, plots and files.

Every file is read and written by `files`, records as JSON by `records`; `idx` reads MNIST for `data`.
"""

"""What claims, benchmarks and tools share: options that are checked, verdicts, a command line, data, plots and files.

All commands read their options, show their help, their `progress` and their errors, and end, by `command_line`. Every
file is read and written by `files`, records as JSON by `records`; `idx` reads MNIST for `data`.
"""

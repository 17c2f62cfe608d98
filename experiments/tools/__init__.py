"""Programs to work with: each of `train`, `check`, `private` and `report` is a command line.

`config` holds the options of a training run; `description` and `array_files` read what `check` is given, and
`handed_in` runs programs for it; `privacy` is the mechanism of `private`.
"""

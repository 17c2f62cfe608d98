"""Programs to work with: each of `train`, `check`, `private`, `report` and `accelerators` is a command line.

`config` holds the options of a training run; `description` and `array_files` read what `check` is given, and
`handed_in` runs programs for it; `privacy` is the mechanism of `private`. `accelerators`
asks `ahead_of_time` to compile for its `topologies`, reads the programs by `collectives`, looks for the `largest` step,
shows `compiled_tables`, and runs what `on_device` says where there is a device.
"""

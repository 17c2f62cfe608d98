"""Programs to work with: each of `train`, `check`, `grade`, `custom_rules`, `private`, `report`, … is a command line.

`config` holds the options of a training run, whose parameters `predict` predicts with; `description` and `array_files`
read what `check` is given, and `handed_in` runs programs for it, behind `fences` for `grade`; `audited` runs them for
`check_rules`, and `laid_out` for other layouts. `problem`, `submissions`, `grading`, `marks` and `gradebook` are the
parts of `grade`, `example_class` makes it a class; `custom_rule_calls` are the calls of `custom_rules`. `privacy` is
the mechanism of `private`. `accelerators` asks `ahead_of_time` to compile for its `topologies`, reads the programs by
`collectives`, looks for the `largest` step, shows `compiled_tables`, and runs what `on_device` says where there is a
device.
"""

"""Speed and memory, side by side with peers: `benchmark` prints the tables, of which two files hold most.

Those are `collectors`, which measures BackPACK and Opacus by `peers` where they are installed, and `graphs`. All take
their times by `timing`.
"""

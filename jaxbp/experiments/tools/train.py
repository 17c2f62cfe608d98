"""Train a layered network by explicit backpropagation on real data: the main job.

    python -m experiments.train
    python -m experiments.train --data wine --hidden 16 16 --activation tanh --epochs 100
    python -m experiments.train --data-dir PATH/TO/IDX --epochs 10 --batch-size 128 --learning-rate 0.1
    python -m experiments.train --resume runs/NAME
    python -m experiments.predict runs/NAME
    python -m experiments.train --processes 2 --drop-last

Writes `runs/NAME/` with `config.json`, one JSON line of metrics for each epoch, `curves.png`, and the parameters as
`params.npz`, which `check` reads; with them and `scaling.json`, `predict` predicts. A name is used once: where its
folder is there already, nothing is done. Files are written whole or not at all. Ctrl-C ends the run with what was done
until then, and exit code 130; SIGTERM does so after a last checkpoint, with exit code 143.

A run that was ended, or killed, goes on from its last checkpoint with `--resume runs/NAME`, and ends with the same
numbers as if it never had been. With `--processes` several of them divide each batch; when one dies, all are started
again from the last checkpoint.
"""

from rich.console import Console

from jaxbp.experiments.common.command_line import command_line, terminal
from jaxbp.experiments.common.runs import make_folder
from jaxbp.experiments.tools.config import Config, resumed
from jaxbp.experiments.tools.job import Job
from jaxbp.experiments.tools.log import Row, rows_in
from jaxbp.experiments.tools.together import together


def main(config: Config, console: Console | None = None) -> list[Row]:
    """Train as configured, show it, and write the run's files.

    Of the metrics of each epoch, those of epoch 0 are the untrained network's.

    Raises:
        ValueError: A choice that does not exist or does not fit the data, before anything is compiled; a folder to
            resume that holds no run, or another one.
        FileExistsError: A run of this name is there already.
        OSError: A file cannot be written; the error names it.
        jaxbp.train.DivergedError: A value was not finite; what was done so far is written.
        KeyboardInterrupt: The same of Ctrl-C, and the message says how far it came.
        SystemExit: The same of SIGTERM, after a last checkpoint.
    """
    console = console or terminal()
    if config.resume is not None:
        folder, processes = config.resume, config.processes
        config = resumed(config)
        console.print(f"going on with {folder}/")
    else:
        prepared = Job(config)
        folder, processes = make_folder(config, prepared.source), config.processes
        if processes == 1:
            return prepared.done_in(folder, console)
    if processes > 1:
        together(folder, processes, console)
        return rows_in(folder)
    return Job(config).done_in(folder, console)


if __name__ == "__main__":
    command_line(main, Config, succeeded=lambda rows: True)

"""Run a command, or list them.

    python -m experiments
    python -m experiments check mine.npz --network net.toml

In a checkout `python -m experiments.check` is the same; where jaxbp is installed, it is `jaxbp check`.
"""

import ast
import os
import pkgutil
import runpy
import shutil
import sys
import textwrap
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

FIRST = ("check", "grade", "explain", "exercise", "train", "report")
"""What is listed before the others."""
MOST_COLUMNS = 100


def main(folder: Path = Path(__file__).parent) -> dict[str, str]:
    """Print every experiment of a package with the first line of its docstring.

    An experiment is a module that can be run: one with a `main` and an `if __name__ == "__main__"`. The others are
    what experiments share.

    Args:
        folder: The package's folder. What is in a folder of it is run like what is in itself.

    Returns:
        The first lines, by the name to run it with.
    """
    summaries = {
        name: (ast.get_docstring(tree) or "(no docstring)").splitlines()[0] for name, _, tree in _found(folder)
    }
    names = sorted(summaries, key=lambda name: (FIRST.index(name) if name in FIRST else len(FIRST), name))
    width = min(shutil.get_terminal_size().columns, MOST_COLUMNS)
    column = max(map(len, names), default=0) + 4
    for name in names:
        text = f"{name:{column - 2}}{summaries[name]}"
        print(textwrap.fill(text, width, initial_indent="  ", subsequent_indent=" " * column))
    return {name: summaries[name] for name in names}


def run(words: list[str] | None = None) -> None:
    """The command line of all commands: `jaxbp NAME …`, or in a checkout `python -m experiments NAME …`."""
    name, *rest = (sys.argv[1:] if words is None else words) or ["--help"]
    try:
        if name in ("-h", "--help"):
            _help("python -m experiments" if "experiments" in sys.orig_argv else "jaxbp")
        elif name in ("-V", "--version"):
            print(version("jaxbp"))
        else:
            _run(name, rest)
    except BrokenPipeError:  # by `| head`; what is still to be flushed goes nowhere
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except KeyboardInterrupt:  # while it is imported; later it says itself how far it came
        print("stopped: before it was begun", file=sys.stderr)
        sys.exit(130)


def _help(typed: str) -> None:
    print(f"usage: {typed} COMMAND [OPTIONS]\n\nBackpropagation made explicit, from the command line.\n")
    main()
    print(f"\n{typed} COMMAND --help says more of one. For example:\n")
    print(f"  {typed} check mine.npz --network net.toml")
    sys.stdout.flush()


def _run(name: str, words: list[str]) -> None:
    """Run a module as the process's own program, with its words; what it needs and is not there is said in a line."""
    found = {name: f"{folder.name}." for name, folder, _ in _found(Path(__file__).parent)}
    if name not in found:
        from jaxbp.experiments.common.messages import suggestion

        print(f"error: there is no command {name!r}{suggestion(name, found)}; --help lists them", file=sys.stderr)
        sys.exit(2)
    sys.argv = [name, *words]
    try:
        runpy.run_module(f"jaxbp.experiments.{found[name]}{name}", run_name="__main__", alter_sys=True)
    except ModuleNotFoundError as error:
        from jaxbp.experiments.common.messages import lacking

        if "--debug" in words or not (needed := lacking(error)):
            raise
        print(f"error: {needed}", file=sys.stderr)
        sys.exit(1)


def _found(folder: Path) -> Iterator[tuple[str, Path, ast.Module]]:
    """The experiments of a package: their names, where they are, and what is in them."""
    inner = [folder / module.name for module in pkgutil.iter_modules([str(folder)]) if module.ispkg]
    for module in pkgutil.iter_modules(map(str, [folder, *inner])):
        if module.ispkg or module.name.startswith("_"):
            continue
        # read, not imported: jax, matplotlib and scikit-learn would take seconds to say what they are not asked
        place = Path(module.module_finder.path)
        tree = ast.parse((place / f"{module.name}.py").read_text(encoding="utf-8"))
        if _is_experiment(tree):
            yield module.name, place, tree


def _is_experiment(tree: ast.Module) -> bool:
    has_main = any(isinstance(node, ast.FunctionDef) and node.name == "main" for node in tree.body)
    tests = [ast.unparse(node.test) for node in tree.body if isinstance(node, ast.If)]
    return has_main and "__name__ == '__main__'" in tests


if __name__ == "__main__":
    run()

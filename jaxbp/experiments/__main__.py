"""List the experiments, one line each.

python -m experiments
"""

import ast
import pkgutil
from pathlib import Path


def main(folder: Path = Path(__file__).parent) -> dict[str, str]:
    """Print every experiment of a package with the first line of its docstring.

    An experiment is a module that can be run: one with a `main` and an `if __name__ == "__main__"`. The others are
    what experiments share.

    Args:
        folder: The package's folder, named like the package. What is in a folder of it is run like what is in itself.

    Returns:
        The first lines, by the name to run it with.
    """
    experiments: dict[str, str] = {}
    inner = [folder / module.name for module in pkgutil.iter_modules([str(folder)]) if module.ispkg]
    for module in pkgutil.iter_modules(map(str, [folder, *inner])):
        if module.ispkg or module.name.startswith("_"):
            continue
        # read, not imported: jax, matplotlib and scikit-learn would take seconds to say what they are not asked
        tree = ast.parse(Path(module.module_finder.path, f"{module.name}.py").read_text(encoding="utf-8"))
        if _is_experiment(tree):
            summary = (ast.get_docstring(tree) or "(no docstring)").splitlines()[0]
            experiments[f"{folder.name}.{module.name}"] = summary
    column = max(map(len, experiments), default=0)
    for name, summary in experiments.items():
        print(f"python -m {name:{column}}  {summary}")
    return experiments


def _is_experiment(tree: ast.Module) -> bool:
    has_main = any(isinstance(node, ast.FunctionDef) and node.name == "main" for node in tree.body)
    tests = [ast.unparse(node.test) for node in tree.body if isinstance(node, ast.If)]
    return has_main and "__name__ == '__main__'" in tests


if __name__ == "__main__":
    main()

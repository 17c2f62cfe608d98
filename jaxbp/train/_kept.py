"""What an optimizer keeps of each parameter, in a state whose form is its own."""

from typing import Any

import jax

Path = tuple[Any, ...]


def paths(tree: Any) -> list[Path]:
    """The keys on the way to each leaf."""
    return [path for path, _ in jax.tree_util.tree_leaves_with_path(tree)]


def kept_of(opt_state: Any, params: Any) -> list[int | None]:
    """For each leaf of an optimizer's state the number of the parameter that it has an element for each of; or None.

    An optimizer keeps such leaves in trees like the parameters, masked or not, so a leaf's path ends like the
    parameter's.
    """
    number_of = {path: i for i, path in enumerate(paths(params))}
    shapes = [W.shape for W in jax.tree.leaves(params)]

    def number(path: Path, leaf: Any) -> int | None:
        found = (number_of[path[start:]] for start in range(len(path) + 1) if path[start:] in number_of)
        i = next(found, None)
        return None if i is None or leaf.shape != shapes[i] else i

    return list(map(number, paths(opt_state), jax.tree.leaves(opt_state)))

"""`check_rules`: every custom rule that a function reaches, held against autodiff of what it stands for."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal, NamedTuple, cast

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, JaxprEqn

from jaxbp._check._session import Session
from jaxbp._checks import check_takes
from jaxbp._rules import _program
from jaxbp._rules._applied import Programs, RuleError
from jaxbp._rules._applied import Rule as Applicable
from jaxbp._rules._flow import Flow, is_floating
from jaxbp._rules._found import KEPT, Found, Path, Use, found
from jaxbp._rules._found_eagerly import found_eagerly
from jaxbp._rules._judged import GRAVITY, Judged
from jaxbp._rules._on_device import RuleOnDevice, at_device, at_host, host, twin_of
from jaxbp._rules._places import place, used_at
from jaxbp._rules._program import Program, traced
from jaxbp._rules._report import Rule, RulesReport, RuleVerdict
from jaxbp._rules._trial import Trial

_JUDGED = 24  # applications of one rule, most of which differ in their numbers alone


class Key(NamedTuple):
    """What tells one rule from another."""

    kind: Literal["custom_vjp", "custom_jvp"]
    name: str
    place: str
    rule: str


def check_rules(f: Callable[..., Any], *args: Any, device: Any = None) -> RulesReport:
    """Hold every `custom_vjp` and `custom_jvp` that f(*args) reaches against autodiff of the function it stands for.

        ∂⟨ȳ, g(x)⟩/∂x by the rule = the same by `jax.vjp` of g, for random ȳ, at every x that flows into g

    f is any JAX function; hand in a loss or a model itself, not its gradient, in which the rules are already used up.
    They are found through jit, scan, cond (the branch that is taken), while, remat, vmap and shard_map, also within
    each other, where a rule within another is judged on its own. All runs in float64 where f and the rule can, else in
    the dtypes that came, where rounding is allowed for. Arguments that are no arrays reach f as they are.

    Where rule and autodiff differ, the verdict is not `wrong` but

    - `precision`, where rounding explains it, or it is less than a part in a million;
    - `kink`, where the function has a corner, and the rule's slope lies between those of the two sides;
    - `on purpose`, where autodiff cannot say what is meant. That is so where
        - it gives 0 for this argument, at these and at random values (rounding, signs, a stopped gradient: what a
          straight-through estimator is for), or the function casts to a few bits;
        - the function hands this argument on as it is, at these and at random values (a reversed, scaled or clipped
          gradient);
        - JAX cannot differentiate the function, and central differences agree with the rule or say nothing;
        - central differences agree with the rule and not with autodiff;
        - the function goes in loops, and the rule is within 1% of their derivative, as that of an implicit function is;
        - one array is handed in for several arguments, whose derivatives are right together, or one in which the
          function is flat is given the derivative with respect to another;
        - none is stated, and none would go on, for what flows in is constant or sends none back: hand weights in as
          arguments to have their derivatives judged.

    A rule that fails when it is applied is wrong too.

    With a device, the rules run there in the dtypes that came, with products in full precision, and autodiff of their
    functions runs in float64 on the host; and the gradient of f itself on the device is held against that on the host,
    as one more rule.

    Raises:
        TypeError: f is no function of these arguments, or the device is none.

    Example:
        >>> import jax, jax.numpy as jnp, jaxbp
        >>> @jax.custom_vjp
        ... def wave(x, w):
        ...     return w * jnp.sin(x)
        >>> wave.defvjp(lambda x, w: (wave(x, w), (x, w)), lambda kept, g: (g * jnp.cos(kept[0]), g * jnp.sin(kept[0])))
        >>> report = jaxbp.check_rules(lambda x, w: jax.nn.relu(wave(x, w)).sum(), jnp.ones(3), 2 * jnp.ones(3))
        >>> report.ok, [(rule.name, rule.verdict) for rule in report.rules]
        (False, [('wave', 'wrong'), ('relu', 'right')])
        >>> report.rules[0].why
        (('x', 'scale: the gradient of x is 1/2 of the right one, as when a square is differentiated without its 2'),)
    """
    names = tuple(f"args[{i}]" for i in range(len(args)))
    check_takes(f, "f", names, "lambda x: jnp.sum(jax.nn.relu(x))", hashable=False)
    if not isinstance(device, jax.Device | None):
        raise TypeError(f"device must be a jax.Device such as jax.devices()[0], got {device!r}")
    with Session(lambda: _in_the_precision_of_now(f, args)).undisturbed():
        return _Check(f, args, device).report()


def _in_the_precision_of_now(f: Callable[..., Any], args: Sequence[Any]) -> ClosedJaxpr:
    if jax.dtypes.canonicalize_dtype(float) == jnp.float64:
        with suppress(Exception):  # whatever f objects to in float64
            return traced(f, args, wide=True).jaxpr
    return traced(f, args, wide=False).jaxpr


@dataclass(frozen=True, eq=False)
class _Check:
    f: Callable[..., Any]
    args: Sequence[Any]
    device: Any = None
    seen: dict[bool, tuple[Program, Found]] = field(default_factory=dict)
    reached: dict[bool, Mapping[Path, Sequence[bool]]] = field(default_factory=dict)

    @cached_property
    def programs(self) -> dict[bool, Programs]:
        """What is compiled, in float64 and in the dtypes that came."""
        if self.device is None:
            return {True: Programs(), False: Programs()}
        return {True: Programs(host()), False: Programs(self.device, jax.jit)}

    def _precision(self, wide: bool) -> AbstractContextManager[Any]:
        if self.device is None:
            return jax.enable_x64(True) if wide else nullcontext()
        return at_host() if wide else at_device(self.device)

    def _found(self, wide: bool) -> Found:
        if wide not in self.seen:
            with self._precision(wide):
                program = traced(self.f, self.args, wide=wide, as_rule=self.device is not None)
                self.seen[wide] = program, found(program, self.programs[wide].device)
        return self.seen[wide][1]

    def _goes_on(self, use: Use, i: int, wide: bool) -> bool:
        """Whether what is sent back to an operand goes on to what f was given."""
        if wide not in self.reached:
            program, of = self.seen[wide]
            uses = {use.path: use for use in of.uses if use.times}

            def sends_back(path: Path, step: JaxprEqn) -> Sequence[bool]:
                with suppress(RuleError, KeyError):
                    return Applicable(uses[path], self.programs[wide]).sends_back()
                return [True] * len(step.invars)

            flow = Flow(sends_back)
            flow.through(program.jaxpr.jaxpr, [is_floating(v.aval) for v in program.jaxpr.jaxpr.invars])
            self.reached[wide] = flow.reached
        return use.path not in self.reached[wide] or self.reached[wide][use.path][i]

    def report(self) -> RulesReport:
        notes, wide = [], True
        try:
            self._found(True)
        except Exception as error:  # whatever f objects to in float64
            there = "" if self.device is None else ", beside autodiff on the device"
            notes.append(f"in the dtypes that came{there}, for in float64 the function raises {_said(error)}")
            wide = False
        wide &= self.device is None
        of = self._found(wide)
        rules = [self._judged(key, uses, wide) for key, uses in _grouped(of.uses)]
        if not rules and not of.unseen:
            notes.append(
                "there is no custom rule in it; of a gradient hand in the function that is differentiated, for in the "
                "gradient the rules are used up"
            )
        notes += [f"rules inside of {name} are not looked at" for name in of.unseen]
        order = GRAVITY[::-1]
        return RulesReport(tuple(sorted(rules, key=lambda rule: order.index(rule.verdict))), tuple(notes))

    def _judged(self, key: Key, uses: Sequence[Use], wide: bool) -> Rule:
        times, by = sum(use.times for use in uses), used_at([use.step for use in uses])
        rule = Rule(key.name, key.place, key.kind, times, "not judged", used_at=by)
        if _is_f(key):
            rule = replace(rule, name=getattr(self.f, "__name__", "f"), place="", kind="gradient", used_at=())
        if not times:
            return _because(rule, "", "what flows there never reaches it: its branch is not taken")
        try:
            return _with(rule, self._worst(uses, wide))
        except RuleError as error:
            if _is_f(key):
                return _because(rule, "", f"it has no gradient: {error!s:.200}")
            if isinstance(error.__cause__, jax.errors.UnexpectedTracerError):
                return self._judged_by_numbers(rule, key, wide)
            if wide:  # it may insist on the dtypes that came
                narrow = dict(_grouped(self._found(False).uses))
                if key in narrow:
                    return self._judged(key, narrow[key], False)
            apart = any(use.over for use in uses)  # what the devices did together cannot always be done again
            return _because(rule, "", f"the rule raises {error!s:.200}", "not judged" if apart else "wrong")
        except Exception as error:  # of numbers that no arithmetic is defined for, say: that is no fault of the rule
            return _because(rule, "", f"what it gives cannot be compared: {_said(error)}")

    def _judged_by_numbers(self, rule: Rule, key: Key, wide: bool) -> Rule:
        """The verdict on a rule that closes over what is traced, once it closes over numbers."""
        with self._precision(wide), suppress(Exception):  # not all runs step by step, and under vmap that is no help
            program = self.seen[wide][0]
            uses = dict(_grouped(found_eagerly(program.function, program.inputs)))[key]
            return _with(rule, self._worst(uses, wide))
        return _because(rule, "", "the rule closes over what is traced, and cannot run apart from its function")

    def _worst(self, uses: Sequence[Use], wide: bool) -> dict[int, Judged]:
        worst: dict[int, Judged] = {}
        doubts: dict[int, list[tuple[float, Trial]]] = {}

        def keep(i: int, verdict: Judged) -> None:
            if i not in worst or verdict.gravity > worst[i].gravity:
                worst[i] = verdict

        with self._precision(wide):
            for trial in self._trials(uses, wide):
                verdicts, sizes = trial.at_a_glance()
                for i, verdict in verdicts.items():
                    keep(i, verdict)
                for i, size in sizes.items():
                    doubts.setdefault(i, []).append((size, trial))
            for i, each in doubts.items():
                # a closer look takes time: from the worst on, until one is wrong
                for _, trial in sorted(each, key=lambda doubt: -doubt[0]):
                    keep(i, trial.closely(i))
                    if worst[i].verdict == "wrong":
                        break
        return worst

    def _trials(self, uses: Sequence[Use], wide: bool) -> list[Trial]:
        rules = {id(use): list(self._variants(use, wide)) for use in uses}
        # every use comes once before any comes again
        at = [(use, use.operands[k]) for k in range(KEPT) for use in uses if k < len(use.operands)]
        return [
            Trial(rule, operands, self._names(use, wide), lambda use, i: self._goes_on(use, i, wide))
            for use, operands in at[: max(_JUDGED, len(uses))]
            for rule in rules[id(use)]
        ]

    def _names(self, use: Use, wide: bool) -> Sequence[str]:
        names = self.seen[wide][0].names
        return names if self.device and len(use.path) == 1 and len(names) == len(use.step.invars) else _names(use)

    def _variants(self, use: Use, wide: bool) -> Iterator[Applicable]:
        rule = Applicable(use, self.programs[wide])
        twin = twin_of(use, self.seen[True][1].uses) if self.device is not None and True in self.seen else None
        # it may do otherwise where only one of its arguments is differentiated
        alone = rule.arguments if use.step.params["symbolic_zeros"] and len(rule.arguments) > 1 else ()
        for i in (None, *alone):
            each = replace(rule, alone=i)
            at_home = Applicable(twin, self.programs[True], i) if twin else None
            yield RuleOnDevice(use, each.programs, i, twin=at_home) if at_home else each


def _is_f(key: Key) -> bool:
    """Whether a rule is the one that f itself was given, for its gradient."""
    return key.place.startswith(f"{_program.__file__}:")


def _grouped(uses: Sequence[Use]) -> list[tuple[Key, list[Use]]]:
    """The uses of each rule; rules are the same that are written at the same place."""
    groups: dict[Key, list[Use]] = {}
    for use in uses:
        params = use.step.params
        kind = cast(Literal["custom_vjp", "custom_jvp"], use.step.primitive.name.removesuffix("_call"))
        rule = params["bwd"] if "bwd" in params else params["jvp_jaxpr_fun"]
        key = Key(kind, *place(use.step), str(rule.debug_info.func_src_info))
        groups.setdefault(key, []).append(use)
    return list(groups.items())


def _names(use: Use) -> list[str]:
    """What the arguments are called; those that a function closes over come first."""
    params = use.step.params
    closed, many = params["num_consts"], len(use.step.invars)
    named = [params["call_jaxpr"].jaxpr.debug_info.arg_names]
    named += [params["fwd_jaxpr_thunk"].debug_info.arg_names] if "fwd_jaxpr_thunk" in params else []
    for names in named:
        if names and len(names) == many - closed:
            return ["a constant"] * closed + [str(name) or f"argument {i}" for i, name in enumerate(names)]
        if names and len(names) == many:
            return [str(name) or f"argument {i}" for i, name in enumerate(names)]
    return [f"argument {i - closed}" for i in range(many)]


def _with(rule: Rule, worst: dict[int, Judged]) -> Rule:
    verdicts: list[RuleVerdict] = [each.verdict for each in worst.values()]
    verdict: RuleVerdict = max(verdicts, key=GRAVITY.index) if verdicts else "right"
    why = tuple((each.finding.name, each.why) for each in worst.values() if each.why)
    return replace(rule, verdict=verdict, findings=tuple(each.finding for each in worst.values()), why=why)


def _because(rule: Rule, name: str, why: str, verdict: RuleVerdict = "not judged") -> Rule:
    return replace(rule, verdict=verdict, why=((name, why),))


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split()):.200}"

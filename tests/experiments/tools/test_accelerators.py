"""Steps compiled for devices that are not there: what is read of a program, what is looked for, and what is shown."""

import dataclasses
import io
import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import PartitionSpec as P

from jaxbp.experiments.common.command_line import terminal
from jaxbp.experiments.tools import accelerators
from jaxbp.experiments.tools.accelerators import Accelerators
from jaxbp.experiments.tools.ahead_of_time import NETWORKS, Compiled, Compiler, Step, megatron, products
from jaxbp.experiments.tools.collectives import Sent, collectives
from jaxbp.experiments.tools.compiled_tables import Found, largest_table, markdown, proofs_of, topology_tables
from jaxbp.experiments.tools.largest import COMPILATIONS, Largest, largest
from jaxbp.experiments.tools.topologies import PLATFORMS, installed

GPU_TEXT = """HloModule jit_run

%add (x: f32[], y: f32[]) -> f32[] {
  %x = f32[] parameter(0)
  ROOT %s = f32[] add(%x, %y)
}

%wrapped (p: f32[32]) -> f32[8] {
  ROOT %reduce-scatter.1 = f32[8]{0} reduce-scatter(%p), dimensions={0}, to_apply=%add
}

%body (arg: (s32[], bf16[4,8])) -> (s32[], bf16[4,8]) {
  %all-reduce-start.1 = (bf16[4,8]{1,0}, f32[]) all-reduce-start(%a, %b), channel_id=1, to_apply=%add
  %all-reduce-done.1 = (bf16[4,8]{1,0}, f32[]) all-reduce-done(%all-reduce-start.1)
}

%condition (arg: (s32[], bf16[4,8])) -> pred[] {
  ROOT %lt = pred[] compare(%i, %n), direction=LT
}

ENTRY %main (p: f32[8,4]) -> f32[8,4] {
  %all-gather-start = (f32[2,4]{1,0}, f32[8,4]{1,0}) all-gather-start(%p), dimensions={0}
  %all-gather-done = f32[8,4]{1,0} all-gather-done(%all-gather-start)
  %reduce-scatter-start = ((f32[32]), f32[8]{0}) reduce-scatter-start(%q), calls=%wrapped
  %w = (s32[], bf16[4,8]) while(%t), condition=%condition, body=%body, backend_config={"known_trip_count":{"n":"12"}}
  ROOT %collective-permute-start = (s8[6]{0}, s8[6]{0}, u32[], u32[]) collective-permute-start(%r), channel_id=3
}
"""
TPU_TEXT = """
%cond.2_spmd (wide.param: (s32[], f32[4])) -> pred[] {
  %constant.571.clone.3 = s32[]{:T(128)} constant(25)
  %constant.0 = s32[]{:T(128)} constant(7)
  ROOT %lt.48 = pred[]{:T(512)} compare(%get-tuple-element.3097, %constant.571.clone.3), direction=LT, metadata={}
}

%inner.3_spmd.sunk (wide.param.1: (s32[], f32[4])) -> (s32[], f32[4]) {
  %all-to-all = (f32[3]{0}, f32[3]{0}) all-to-all(%a, %b), channel_id=2
}

%outer.3_spmd.sunk (wide.param.1: (s32[], f32[4])) -> (s32[], f32[4]) {
  %all-reduce.25 = (bf16[1,512]{1,0:T(2,128)(2,1)S(1)}, /*index=1*/f32[2]{0:T(128)}) all-reduce(%c, %d), channel_id=1
  %while.1 = (s32[]{:T(128)}, f32[4]{0:T(8,128)(2,1)}) while(%t), condition=%cond.2_spmd, body=%inner.3_spmd.sunk
}

%all-reduce-scatter.1 (input: f32[8,4], at: s32[]) -> f32[2,4] {
  %all-reduce.9 = f32[8,4]{1,0:T(8,128)} all-reduce(%input), channel_id=9, to_apply=%add
  ROOT %dynamic-slice = f32[2,4]{1,0:T(8,128)} dynamic-slice(%all-reduce.9, %at, %zero), dynamic_slice_sizes={2,4}
}

%fused_computation.57 (param_0: bf16[2]) -> (bf16[8], u32[]) {
  %all-gather.26 = bf16[8]{0} all-gather(%param_0), channel_id=3, dimensions={0}
}

%async_collective_fusion.39 (param_1: bf16[2]) -> bf16[8] {
  %all-gather.28 = bf16[8]{0} all-gather(%param_1), channel_id=3, dimensions={0}
}

ENTRY %main.4_spmd (param.2: f32[4]) -> f32[4] {
  %fusion.1 = f32[2,4]{1,0:T(8,128)S(1)} fusion(%f, %at), kind=kCustom, calls=%all-reduce-scatter.1
  %fusion.2 = (bf16[8], u32[]) fusion(%param.2), kind=kCustom, calls=%fused_computation.57
  %fusion.3 = bf16[8]{0} fusion(%fusion.2), kind=kOutput, calls=%async_collective_fusion.39
  %while.2 = (s32[]{:T(128)}, f32[4]{0:T(8,128)(2,1)}) while(%t), condition=%cond.2_spmd, body=%outer.3_spmd.sunk
}
"""


def test_collectives_are_counted_as_often_as_they_run_and_by_what_comes_out():
    assert collectives(GPU_TEXT) == {
        "all-reduce": Sent(12, 12 * (4 * 8 * 2 + 4)),
        "all-gather": Sent(1, 8 * 4 * 4),
        "reduce-scatter": Sent(1, 8 * 4),
        "collective-permute": Sent(1, 6),
    }
    assert collectives(TPU_TEXT) == {
        "all-reduce": Sent(25, 25 * (512 * 2 + 2 * 4)),
        "all-gather": Sent(1, 8 * 2),
        "reduce-scatter": Sent(1, 2 * 4 * 4),
        "all-to-all": Sent(25 * 25, 25 * 25 * 6 * 4),
    }
    assert collectives("") == {}


def test_products_are_counted_in_loops_and_not_where_nobody_reads_them():
    def program(x, W):
        def body(h, _):
            return jax.nn.relu(h @ W), jnp.sum(h.T @ h)

        h, _unread = jax.lax.scan(body, x, None, length=7)
        h = jax.lax.cond(h[0, 0] > 0, lambda h: h @ W, lambda h: h, h)
        return jnp.sum(jax.lax.conv(h[None, None], jnp.ones((2, 1, 3, 3)), (1, 1), "SAME"))

    jaxpr = jax.make_jaxpr(program)(jnp.ones((5, 4)), jnp.ones((4, 4))).jaxpr
    assert products(jaxpr) == (7 + 1) * 2 * 5 * 4 * 4 + 2 * (2 * 5 * 4) * 9


@pytest.mark.parametrize(
    ("needs", "fits", "too_large"),
    [
        (lambda size: 100 + 7 * size, 128, 131),
        (lambda size: 100 + 7 * size if size <= 128 else None, 128, 131),
        (lambda size: 1001, 0, 1),
        (lambda size: None, 0, 1),
    ],
)
def test_the_largest_that_fits_is_found_in_few_compilations(needs, fits, too_large):
    found = largest(needs, 1000, start=2)
    assert found[:2] == (fits, too_large)
    assert found.known
    assert len(found.needs) <= 4


@pytest.mark.parametrize("edge", [3, 77, 500, 5000])
def test_the_search_ends_where_memory_bends_and_says_what_it_knows(edge):
    found = largest(lambda size: min(10 * size, 900) if size <= edge else None, 1000, start=2)
    assert found.fits <= edge
    assert found.too_large is None or found.too_large > edge
    assert len(found.needs) <= COMPILATIONS
    assert found.fits == max(size for size, of in found.needs.items() if of is not None)


def test_a_megatron_split_divides_columns_then_rows():
    rules = {name: megatron(of) for name, of in NETWORKS.items()}
    for unit in ("query", "key", "value", "up"):
        assert rules["gpt"](f"blocks.{unit}.gain1", (12, 8, 8)) == P(None, None, "model")
        assert rules["gpt"](f"blocks.{unit}.bias", (12, 8)) == P(None, "model")
    for unit, source in (("attended", "mixed"), ("out", "wide")):
        assert rules["gpt"](f"blocks.{unit}.{source}", (12, 8, 8)) == P(None, "model", None)
        assert rules["gpt"](f"blocks.{unit}.bias", (12, 8)) is None
    assert rules["gpt"]("embedded.tokens", (256, 8)) is None
    assert rules["mlp"]("h1.x", (784, 8)) == P(None, "model")
    assert rules["mlp"]("h2.h1", (8, 8)) == P("model", None)
    assert rules["convolutional"]("c2.p1", (5, 5, 8, 16)) == P(None, None, "model", None)
    for of in NETWORKS.values():  # every unit that a split is about is there
        net = of.make(of.depth, 256)
        names = set(net.order) | {f"blocks.{u}" for u in getattr(net.units.get("blocks"), "block", net).order}
        assert sum(map(of.columns, names)) >= 2
        assert any(of.rows(name) and not of.columns(name) for name in names)


def step(**changed):
    return dataclasses.replace(Step("v5e:2x2", "gpt", "data", "float32", "explicit", 2, 12), **changed)


def compiled(**changed):
    """A pair of steps, of which the explicit one takes half the memory; changed in what is given."""
    gradient = {
        "explicit": {"peak": 10**9, "temporary": 4 * 10**8},
        "jax.grad": {"peak": 2 * 10**9, "temporary": 10**9},
    }
    usual = {"arguments": 10**8, "products": 5 * 10**12, "flops": 10**11, "sent": {"all-reduce": Sent(14, 3 * 10**8)}}
    return [
        Compiled(step(gradient=name), **usual | of | (changed if name == "explicit" else {}))
        for name, of in gradient.items()
    ]


def test_a_proof_holds_only_within_all_of_its_bounds():
    proof = proofs_of("v5e:2x2", "gpt", compiled())
    assert proof.holds
    assert (proof.memory, proof.temporary, proof.pairs) == (0.5, 0.4, 1)
    assert proof.decision.endswith(": holds")
    for wrong in (
        {"peak": 1_300_000_000},
        {"products": 5_100_000_000_000},
        {"flops": 1.01e11},
        {"sent": {"all-reduce": Sent(15, 3 * 10**8)}},
        {"sent": {"all-reduce": Sent(14, 3 * 10**8), "all-gather": Sent(1, 8)}},
    ):
        assert proofs_of("v5e:2x2", "gpt", compiled(**wrong)).decision.endswith(": does not hold")
    assert proofs_of("v5e:2x2", "gpt", compiled(flops=None)).holds
    refused = proofs_of("v5e:2x2", "gpt", compiled(refused="INTERNAL: no"))
    assert refused.holds is None
    assert "not decided" in refused.decision
    assert proofs_of("h100:4", "gpt", compiled()) is None
    assert proofs_of("v5e:2x2", "gpt", compiled()[:1]) is None


def test_the_tables_have_80_columns_and_everything_is_in_them(capsys):
    sent = {"collective-permute": Sent(1234, 98 * 2**30), "reduce-scatter": Sent(12, 900)}
    done = [*compiled(peak=94 * 2**30, sent=sent)]
    done += [Compiled(step(layout="megatron"), refused="XlaRuntimeError: RESOURCE_EXHAUSTED: [/red] " + "x" * 200)]
    found = [
        Found(step(), "batch", Largest(128, 131, {128: 2**30, 131: None}), {131: "INTERNAL: no"}),
        Found(step(gradient="jax.grad"), "batch", Largest(64, None, {64: 2**30}), {}),
    ]
    out = io.StringIO()
    console = terminal(file=out, width=80)
    tables = [*topology_tables("v5e:2x2", done), largest_table(found, "v5e:2x2")]
    for table in tables:
        console.print(table.rich())
    lines = out.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    text = " ".join(out.getvalue().split())
    for words in (
        "96,256",
        "100,352",
        "1234×",
        "900 B",
        "megatron",
        "[/red]",
        "128",
        "131, not for memory",
        "64 or more",
    ):
        assert words in text, words
    page = markdown(
        tables, [proofs_of("v5e:2x2", "gpt", compiled())], ["none of it"], [], {"jax": "1.2", "libtpu": None}
    )
    for words in ("jax 1.2", "none of it", "| megatron |", "holds", "Nothing: there was no device"):
        assert words in page, words
    assert "libtpu" not in page


def test_what_is_missing_is_said_with_what_to_install_and_nothing_is_compiled(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(accelerators, "installed", lambda platform: False)
    out = io.StringIO()
    result = accelerators.main(Accelerators(quick=True, name="none"), terminal(file=out, width=200))
    assert "libtpu is not installed, so nothing is compiled for v5e:2x2: pip install 'jaxbp[tpu]'" in out.getvalue()
    assert "jax_cuda12_plugin is not installed" in out.getvalue()
    assert (result.compiled, result.proofs, result.succeeded) == ([], [], True)
    written = json.loads((tmp_path / "runs/none/result.json").read_text())
    assert len(written["missing"]) == 2
    assert "pip install 'jaxbp[cuda]'" in (tmp_path / "runs/none/page.md").read_text()


def test_steps_are_compiled_shown_and_written_and_ctrl_c_keeps_those_that_were(tmp_path, monkeypatch):
    class Fake:
        """A compiler for which memory grows with the batch, and that is stopped when it has been asked often enough."""

        asked = 0
        most = 100

        def __init__(self, platform, log):
            pass

        def __call__(self, step):
            Fake.asked += 1
            if Fake.asked > Fake.most:
                raise KeyboardInterrupt
            share = 2 if step.gradient == "explicit" else 4
            size = share * step.batch * 2**27
            if size > 2**34:
                return Compiled(step, refused="XlaRuntimeError: RESOURCE_EXHAUSTED: it is too large")
            return Compiled(step, None, size, 10, size, 100, None, {}, 0.5)

        def close(self):
            pass

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(accelerators, "installed", lambda platform: True)
    monkeypatch.setattr(accelerators, "Compiler", Fake)
    config = Accelerators(topologies=("v5e:2x2",), networks=("gpt",), layouts=("data",), name="all")
    out = io.StringIO()
    result = accelerators.main(config, terminal(file=out, width=80))
    assert len(result.compiled) == 4
    assert [found.largest.fits for found in result.found] == [64, 32]
    assert not any(found.other for found in result.found)
    assert result.succeeded
    assert "memory 0.500 <= 0.6" in out.getvalue().replace("\n", " ")
    lines = (tmp_path / "runs/all/compiled.jsonl").read_text().splitlines()
    assert len(lines) == Fake.asked > 8
    Fake.asked, Fake.most = 0, 3
    with pytest.raises(KeyboardInterrupt, match=r"by Ctrl-C; wrote runs/stopped/"):
        accelerators.main(dataclasses.replace(config, name="stopped"), terminal(file=io.StringIO()))
    assert len(json.loads((tmp_path / "runs/stopped/result.json").read_text())["compiled"]) == 3


def test_unknown_names_and_sizes_are_refused():
    with pytest.raises(ValueError, match=r"topologies: 'v5e' is none of .* \(did you mean 'v5e:"):
        Accelerators(topologies=("v5e",))
    with pytest.raises(ValueError, match=r"networks: 'mlpp' is none of 'mlp'"):
        Accelerators(networks=("mlpp",))
    with pytest.raises(ValueError, match="convolutional has no depth"):
        Accelerators(networks=("mlp", "convolutional"), grow="depth")
    with pytest.raises(ValueError, match="vocabulary must be at least 2"):
        Accelerators(vocabulary=1)


def test_a_compiler_that_dies_is_a_refusal_and_starts_again(tmp_path, monkeypatch):
    compiler = Compiler("tpu", tmp_path / "log")
    die = [sys.executable, "-c", "import sys; sys.stdin.readline(); sys.exit(7)"]

    def started():
        return subprocess.Popen(die, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    monkeypatch.setattr(compiler, "_started", started)
    for _ in range(2):
        assert "exit code 7" in compiler(step()).refused
    compiler.close()


@pytest.mark.slow
@pytest.mark.parametrize("topology", ["v5e:2x2", "h100:4"])
@pytest.mark.parametrize("layout", ["data", "sharded", "megatron"])
def test_a_step_is_compiled_for_devices_that_are_not_there(topology, layout, tmp_path):
    platform = "tpu" if topology.startswith("v") else "cuda"
    if not installed(platform):
        pytest.skip(f"{PLATFORMS[platform].package} is not installed: pip install 'jaxbp[{PLATFORMS[platform].extra}]'")
    compiler = Compiler(platform, tmp_path / "log")
    try:
        mine, theirs = (
            compiler(Step(topology, "mlp", layout, "float32", gradient, 64, 2)) for gradient in ("explicit", "jax.grad")
        )
    finally:
        compiler.close()
    assert mine.refused is None, (tmp_path / "log").read_text()[-2000:]
    weights = 784 * 4096 + 4096 * 4096 + 4096 * 10
    assert mine.products == theirs.products == 2 * 4 * 64 * (3 * weights - 784 * 4096)
    whole = 3 * 4 * weights  # parameters and two moments of Adam
    assert mine.arguments == pytest.approx(whole / {"data": 1, "sharded": 4, "megatron": 2}[layout], rel=0.02)
    assert mine.sent == theirs.sent
    assert mine.sent["all-reduce"].times >= 1
    assert (mine.flops is None) == (platform == "cuda")
    assert mine.peak <= 1.02 * theirs.peak

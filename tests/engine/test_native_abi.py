"""The C interface against callers who get it wrong: an error comes back, never a crash; and memory does not grow."""

import ctypes
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from agreement import random_case

from unrolled.cells import CELLS
from unrolled.engine.native import autograd, library

CASES = 6000
WILD = (-(2**31), -1, 0, 1, 2, 15, 16, 17, 48, 2**16 + 1, 2**31 - 1)


def plan_description(rng: random.Random) -> tuple[library.PlanDescription, list]:
    """A plan of one stage with one product, right except where chance changes a number or drops a list."""

    def maybe(value: int) -> int:
        return rng.choice(WILD) if rng.random() < 0.06 else value

    inputs, units = rng.choice((1, 5, 16, 33)), rng.choice((1, 7, 16, 40))
    widths = (inputs, units, units)
    addressings = (
        library.ROWS,
        rng.choice((library.ROWS, library.INDEXED)),
        rng.choice((library.ROWS, library.OUTSIDE)) if units == 16 or rng.random() < 0.02 else library.ROWS,
    )
    arrays = (library.Array * 3)(
        *(
            library.Array(maybe(addressing), maybe(-1), maybe(w), maybe(-(-w // 16) * 16))
            for w, addressing in zip(widths, addressings, strict=True)
        )
    )
    products = (library.Product * 1)(library.Product(*map(maybe, (0, 0, 3, 0))))
    instructions = (library.Instruction * 2)(
        library.Instruction(*map(maybe, (rng.randrange(17), 4, 3, 1))), library.Instruction(*map(maybe, (1, 2, 4, 1)))
    )
    stages = (library.Stage * 1)(library.Stage(*map(maybe, (units, 0, 1, 0, 2))))
    rows, columns = (ctypes.c_int64 * 1)(maybe(units)), (ctypes.c_int64 * 1)(maybe(inputs))
    lists = [arrays, products, instructions, stages, rows, columns]
    kinds = [library.Array, library.Product, library.Instruction, library.Stage, ctypes.c_int64, ctypes.c_int64]
    given = [
        kind_list if rng.random() > 0.02 else ctypes.POINTER(k)() for kind_list, k in zip(lists, kinds, strict=True)
    ]
    counts = [3, 1, 2, 1, 2, 1, 0]
    counts = [rng.choice((-1, 0, 2**31 - 1)) if rng.random() < 0.02 else c for c in counts]
    precision = rng.choice((library.FP32, library.BF16, 2)) if rng.random() < 0.1 else library.FP32
    return library.PlanDescription(*counts, rng.randrange(2), precision, *given), [*lists, inputs, units]


def run_plan(rng: random.Random, handle: ctypes.c_void_p, inputs: int, units: int, outside: bool) -> int:
    """Run a plan that was accepted, on memory that fits or on numbers that say it does not."""
    steps, batch = rng.randrange(4), rng.randrange(1, 30)
    memory = [np.zeros((32, 64), np.float32) for _ in range(3)]
    packed = np.zeros(library.library().unrolled_packed_size(units, inputs, library.FP32), np.float32)
    active = np.full(max(steps, 1), batch, np.int64)
    if rng.random() < 0.2:
        active[0] = rng.choice((-5, 33, 2**40))
    given_rows = [32 if rng.random() > 0.05 else rng.choice((-1, 0, 3)) for _ in memory]
    if outside:  # floats
        given_rows[2] = 32 * 64 if rng.random() > 0.2 else rng.choice((-1, 0, 15, 31))
    strides = np.array([rng.choice((0, 16, 64)) if rng.random() > 0.1 else rng.choice((-1, 80, 2**62)) for _ in memory])
    pointers = [m.ctypes.data if rng.random() > 0.03 else None for m in memory]
    arrays, rows = (ctypes.c_void_p * 3)(*pointers), (ctypes.c_int64 * 3)(*given_rows)
    panels = (ctypes.c_void_p * 1)(packed.ctypes.data if rng.random() > 0.05 else None)
    addresses = [ctypes.addressof(part) if rng.random() > 0.02 else None for part in (arrays, rows, panels)]
    threads = rng.choice((1, 2, 3, 0, -1))
    count = steps if rng.random() > 0.03 else -1
    index = np.array([rng.choice((0, 1, 31)) if rng.random() > 0.002 else rng.choice((-1, 32)) for _ in range(32)])
    indexed = (index.ctypes.data if rng.random() > 0.03 else None, 32 if rng.random() > 0.05 else rng.choice((3, -1)))
    arguments = library.RunArguments(count, active.ctypes.data, None, *addresses, threads, *indexed)
    arguments.row_stride = strides.ctypes.data if rng.random() > 0.1 else None
    message = ctypes.create_string_buffer(library.MESSAGE)
    return library.library().unrolled_plan_run(handle, ctypes.byref(arguments), message)


def test_plans_that_do_not_fit_are_refused():
    rng = random.Random(0)
    native = library.library()
    seen = {"refused": 0, "ran": 0, "run refused": 0}
    for _ in range(CASES):
        description, kept = plan_description(rng)
        handle, message = ctypes.c_void_p(), ctypes.create_string_buffer(library.MESSAGE)
        if native.unrolled_plan_create(description, ctypes.byref(handle), message) != 0:
            assert message.value, "an error must say why"
            seen["refused"] += 1
            continue
        small = all(a.stride <= 64 for a in kept[0])  # a caller may not claim rows wider than its memory
        if small:
            outside = kept[0][2].addressing == library.OUTSIDE
            status = run_plan(rng, handle, int(kept[5][0]), int(kept[4][0]), outside)
            seen["ran" if status == 0 else "run refused"] += 1
        native.unrolled_plan_destroy(handle)
    assert min(seen.values()) > CASES // 20, seen


@pytest.mark.parametrize(
    "function", ["pack", "pack_all", "outer", "copy_rows", "add_rows", "play", "cross_entropy", "dropout", "pointwise"]
)
def test_the_other_functions_refuse_what_does_not_fit(function):
    rng = random.Random(1)
    native = library.library()
    memory, result = np.zeros(64 * 64, np.float32), np.zeros(64 * 64, np.float32)
    floats = ctypes.POINTER(ctypes.c_float)
    refused = 0
    for _ in range(CASES // 3):
        size = [rng.choice((-(2**40), -1, 0, 1, 5, 16, 31)) for _ in range(3)]
        pointer = memory.ctypes.data if rng.random() > 0.2 else None
        message = ctypes.create_string_buffer(library.MESSAGE)
        threads = rng.choice((-1, 0, 1, 2))
        precision = rng.choice((library.FP32, library.BF16, 2)) if rng.random() < 0.1 else library.FP32
        if function == "pack":
            status = native.unrolled_pack(pointer, *size[:2], 32, 1, result.ctypes.data, threads, message)
        elif function == "pack_all":
            one = (library.Matrix * 1)(library.Matrix(pointer, *size[:2], 32, 1, result.ctypes.data))
            status = native.unrolled_pack_all(
                one if pointer else None, rng.choice((-1, 0, 1)), precision, threads, message
            )
        elif function == "copy_rows":
            to, source = library.Rows(result.ctypes.data, None, 16, 32 * 16), library.Rows(pointer, None, 32, 16)
            status = native.unrolled_copy_rows(
                ctypes.byref(to), ctypes.byref(source), *size[:2], rng.randrange(2), threads, message
            )
        elif function == "add_rows":
            to, source = library.Rows(result.ctypes.data, None, 16, 32 * 16), library.Rows(pointer, None, 32, 16)
            status = native.unrolled_add_rows(ctypes.byref(to), ctypes.byref(source), *size[:2], threads, message)
        elif function == "play":
            to, source = library.Rows(result.ctypes.data, None, 16, 32 * 16), library.Rows(pointer, None, 32, 16)
            words = np.array([0, ctypes.addressof(source), *size[:2], 0, threads])  # the first one is patched
            given = words.ctypes.data if rng.random() > 0.1 else 0
            calls = np.array([rng.choice((library.CALL_COPY, library.CALL_COPY, -1, 5, 2**40)), given])
            patch = np.array([rng.choice((0, 0, 0, 6, -1)), rng.choice((0, 0, 1)), ctypes.addressof(to)])
            many, patches = rng.choices((1, 1, 0, -1), k=2)
            where = calls.ctypes.data if pointer else 0
            parts = np.array([where, many, words.ctypes.data, 6, patch.ctypes.data, patches, 1])
            bases = np.zeros(1, np.int64)
            first = rng.choice((0, 0, 0, 1, 2, -1))
            status = native.unrolled_play(parts.ctypes.data, first, bases.ctypes.data, message)
        elif function == "cross_entropy":
            targets = np.array([rng.choice((0, 0, 0, size[1] - 1, size[1], -1)) for _ in range(31)])
            given = (pointer, precision, targets.ctypes.data, *size[:2], 1.0, result.ctypes.data, threads, message)
            status = native.unrolled_cross_entropy(*given)
        elif function == "dropout":
            dropped = rng.choice((-1, 0, 25, 255, 256))
            status = native.unrolled_dropout(pointer, result.ctypes.data, size[0], 1, dropped, threads, message)
        elif function == "outer":
            one = (ctypes.c_void_p * 1)(pointer)
            out = (ctypes.c_void_p * 1)(result.ctypes.data if pointer else None)
            stride = (ctypes.c_int64 * 1)(rng.choice((-1, 0, 32)))
            count = rng.choice((-1, 0, 1))
            status = native.unrolled_outer(
                count,
                one,
                stride,
                memory.ctypes.data,
                32,
                *size,
                one if pointer is None else out,
                stride,
                rng.choice((0, 1)),
                precision,
                threads,
                message,
            )
        else:
            values = ctypes.cast(pointer, floats)
            opcode = rng.choice((-1, 0, 1, 6, 16, 17, 99))
            status = native.unrolled_pointwise(opcode, values, values, values, size[0], message)
        refused += status != 0
        assert status == 0 or message.value
    assert 0 < refused < CASES // 3


def resident_kilobytes() -> int:
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the memory of the process from /proc")
def test_ten_thousand_calls_do_not_grow_memory():
    program = CELLS["gru"]
    parameters, x, state = random_case(program, 2, 3, {"input": 8, "hidden": 64})

    def call(number: int) -> None:
        lengths = torch.tensor([1 + number % 3, 3]) if number % 2 else None
        with torch.set_grad_enabled(number % 4 == 0):
            outputs, _ = autograd.unroll(program, parameters, x, state, lengths)
        if number % 4 == 0:
            torch.autograd.grad(outputs.sum(), list(parameters.values()))
            with torch.no_grad():
                parameters["W_z"].mul_(1.0)  # packed anew

    for number in range(1000):
        call(number)
    before = resident_kilobytes()
    for number in range(10_000):
        call(number)
    # A leak of one packed matrix (16 KiB) in every fourth call would be 40 MiB; allocators wander by a few.
    assert resident_kilobytes() - before < 8 * 1024


@pytest.mark.parametrize(("status", "kind"), [(1, library.NativeError), (library.NO_MEMORY, MemoryError)])
def test_a_failed_call_says_what_failed(status: int, kind: type[Exception]) -> None:
    message = ctypes.create_string_buffer(b"no memory for the run")
    with pytest.raises(kind, match="native engine, unrolled_plan_run: no memory for the run"):
        library.check("unrolled_plan_run", status, message)
    library.check("unrolled_plan_run", library.OK, message)

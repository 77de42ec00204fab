"""The C interface of decoding against callers who get it wrong: an error comes back, never a crash."""

import ctypes
import math
import random

import numpy as np
import pytest

from unrolled.engine.native import library
from unrolled.engine.native.decoder import Stream, _aligned, _Description

CASES = 3000
UNITS, VOCABULARY, ROOM = 20, 33, 8
WILD = (-(2**31), -1, 3, 4, 5, 17, 2**16 + 1, 2**31 - 1)
WILD_COUNTS = (-(2**62), -1, 2**25, 2**40, 2**62)
NOT_FINITE = (math.nan, math.inf, -math.inf)
WILD_NUMBERS = (*NOT_FINITE, -1.0, 0.0, 5e-324, 1e308)
X, BEFORE, AFTER, LOGITS, BIAS, REGISTER = range(6)


class Case:
    """A model of one layer, h = tanh(W h + table), and its decoder: right except where chance changes something."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.int8 = rng.random() < 0.5
        stride, wide = 32, 48
        arrays = [(0, -1, UNITS, stride), (0, 0, UNITS, stride), (0, 1, UNITS, stride), (0, 1, VOCABULARY, wide)]
        arrays.append((1, -1, VOCABULARY, wide))
        products = [(0, BEFORE, REGISTER, 0), (1, AFTER, REGISTER, 0)]
        code = [(library_opcode("ADD"), REGISTER, REGISTER, X), (library_opcode("TANH"), AFTER, REGISTER, REGISTER)]
        code.append((library_opcode("ADD"), LOGITS, REGISTER, BIAS))
        stages = [(UNITS, 0, 1, 0, 2), (VOCABULARY, 1, 1, 2, 1)]
        kinds = [library.Array, library.Product, library.Instruction, library.Stage]
        lists = [
            (k * len(r))(*(k(*x) for x in r)) for k, r in zip(kinds, [arrays, products, code, stages], strict=True)
        ]
        sizes = [(ctypes.c_int64 * 2)(UNITS, VOCABULARY), (ctypes.c_int64 * 2)(UNITS, UNITS)]
        self.kept = [*lists, *sizes]
        self.plan = ctypes.c_void_p()
        description = library.PlanDescription(5, 2, 1, 2, 3, 2, 2, 0, library.FP32, *lists, *sizes)
        library.call("unrolled_plan_create", description, ctypes.byref(self.plan))
        self.decoder = ctypes.c_void_p()

    def maybe(self, value, wild, share=0.04):
        return self.rng.choice(wild) if self.rng.random() < share else value

    def pointers(self, arrays):
        places = library.addresses([0 if a is None else self.maybe(a.ctypes.data, (0,)) for a in arrays])
        self.kept += [places, arrays]
        return self.maybe(ctypes.addressof(places), (0,), 0.02)

    def integers(self, values):
        numbers = np.array([self.maybe(value, WILD) for value in values], np.int32)
        self.kept.append(numbers)
        return self.maybe(numbers.ctypes.data, (0,), 0.02)

    def create(self) -> int:
        """The status of unrolled_decoder_create."""
        native = library.library()
        sizes = [(rows, UNITS) for rows in (UNITS, VOCABULARY)]
        matrices = [
            _aligned(native.unrolled_int8_size(*s) if self.int8 else native.unrolled_packed_size(*s, library.FP32))
            for s in sizes
        ]
        bias, table = _aligned(48), _aligned(VOCABULARY * 48)
        fixed = [self.rng.choice((None, bias)) if self.rng.random() < 0.02 else row for row in (None,) * 4 + (bias,)]
        counts = [self.maybe(value, WILD) for value in (1, 1, LOGITS, 1)]
        description = _Description(
            self.maybe(self.plan.value, (None,), 0.02),
            *(self.pointers(matrices), self.pointers(fixed), *counts, int(self.int8)),
            *(self.integers([BEFORE]), self.integers([AFTER]), self.integers([X]), self.pointers([table])),
        )
        self.kept += [description]
        message = ctypes.create_string_buffer(library.MESSAGE)
        status = library.library().unrolled_decoder_create(
            ctypes.byref(description) if self.rng.random() > 0.01 else None, ctypes.byref(self.decoder), message
        )
        assert status == 0 or message.value, "an error must say why"
        return int(status)

    def read(self) -> int:
        """The status of unrolled_decoder_read."""
        rows, steps = self.rng.randrange(12), self.rng.randrange(4)
        tokens = np.array([self.maybe(self.rng.randrange(VOCABULARY), WILD, 0.002) for _ in range(12 * 4)], np.int32)
        state = np.zeros((12, UNITS), np.float32)
        places = self.pointers(list(state)) if self.rng.random() > 0.3 else ctypes.addressof(self.plain(state))
        logits = np.zeros((12, 4, VOCABULARY), np.float32)
        message = ctypes.create_string_buffer(library.MESSAGE)
        status = library.library().unrolled_decoder_read(
            self.maybe(self.decoder, (None,), 0.02),
            *(
                self.maybe(rows, WILD_COUNTS),
                self.maybe(steps, WILD_COUNTS[:2]),
                self.maybe(tokens.ctypes.data, (None,)),
            ),
            ctypes.cast(places, ctypes.POINTER(ctypes.c_void_p)),
            *(self.maybe(logits.ctypes.data, (None,)), self.rng.randrange(2), self.maybe(2, (-1, 0, 1, 7, 2**31 - 1))),
            message,
        )
        assert status == 0 or message.value, "an error must say why"
        return int(status)

    def plain(self, arrays):
        places = library.addresses([a.ctypes.data for a in arrays])
        self.kept.append(places)
        return places

    def stream(self) -> Stream:
        state, logits = np.zeros(UNITS, np.float32), np.zeros(VOCABULARY, np.float32)
        tokens = np.array([self.maybe(3, WILD) for _ in range(2 * ROOM)], np.int32)
        self.kept += [state, logits, tokens]
        for values in (state, logits):
            values[self.rng.randrange(UNITS)] = self.maybe(0.5, NOT_FINITE, 0.1)
        numbers = [self.maybe(value, WILD_NUMBERS, 0.03) for value in (1.2, 0.8, -4.0, 0.9)]
        return Stream(
            *(self.maybe(values.ctypes.data, (None,), 0.01) for values in (state, logits, tokens)),
            *(self.maybe(self.rng.randrange(ROOM), (-1, -(2**62)), 0.02) for _ in range(2)),
            *numbers,
            *(self.maybe(self.rng.randrange(9), WILD_COUNTS, 0.03) for _ in range(2)),
            *(self.rng.randrange(2**64) for _ in range(2)),
        )

    def write(self) -> int:
        """The status of unrolled_decoder_write."""
        streams = [self.stream() for _ in range(self.rng.randrange(6))]
        places = library.addresses([self.maybe(ctypes.addressof(s), (0,), 0.01) for s in streams])
        message = ctypes.create_string_buffer(library.MESSAGE)
        status = library.library().unrolled_decoder_write(
            self.maybe(self.decoder, (None,), 0.02),
            self.maybe(places, (None,), 0.02),
            *(self.maybe(len(streams), WILD_COUNTS), self.maybe(2, (-1, 0, 1, 7, 2**31 - 1)), message),
        )
        assert status == 0 or message.value, "an error must say why"
        assert status != 0 or all(0 <= s.written <= s.wanted for s in streams)
        return int(status)

    def close(self) -> None:
        library.library().unrolled_decoder_destroy(self.decoder)
        library.library().unrolled_plan_destroy(self.plan)


def library_opcode(name: str) -> int:
    """The header's number of an operation."""
    return {"ADD": 1, "TANH": 7}[name]


def test_decoders_streams_and_tokens_that_do_not_fit_are_refused():
    rng = random.Random(0)
    seen = dict.fromkeys(("created", "not created", "read", "not read", "written", "not written"), 0)
    for _ in range(CASES):
        case = Case(rng)
        if case.create() != 0:
            seen["not created"] += 1
        else:
            seen["created"] += 1
            seen["not read" if case.read() else "read"] += 1
            seen["not written" if case.write() else "written"] += 1
        case.close()
    assert min(seen.values()) > CASES // 20, seen


def test_choosing_refuses_settings_that_mean_nothing():
    case = Case(random.Random(1))
    tokens = []
    for _ in range(CASES):
        stream = case.stream()
        logits = np.array([case.maybe(0.5, NOT_FINITE, 0.005) for _ in range(VOCABULARY)], np.float32)
        size = case.maybe(VOCABULARY, (-(2**62), -1, 0, 1))
        place = case.maybe(logits.ctypes.data, (None,), 0.02)
        tokens.append(library.library().unrolled_choose(place, size, ctypes.byref(stream)))
    case.close()
    assert library.library().unrolled_choose(None, 1, None) == -1
    assert set(tokens) <= set(range(-1, VOCABULARY))
    assert CASES // 10 < tokens.count(-1) < CASES // 2


def test_packing_refuses_sizes_and_numbers_that_do_not_fit():
    rng = random.Random(2)
    matrix = np.ones((40, 40), np.int8)
    scale, packed = np.ones(40, np.float32), np.zeros(1 << 14, np.float32)
    refused = 0
    for _ in range(CASES):
        rows, columns = (rng.choice((-(2**40), -1, 0, 1, 5, 16, 31)) for _ in range(2))
        if rng.random() < 0.05:
            columns = rng.choice((2**17 + 1, 2**62))
        matrix[0, 0] = rng.choice((1, 1, -127, -128))
        places = [None if rng.random() < 0.1 else a.ctypes.data for a in (matrix, scale, packed)]
        message = ctypes.create_string_buffer(library.MESSAGE)
        status = library.library().unrolled_int8_pack(*places[:2], rows, columns, 40, places[2], message)
        refused += status != 0
        assert status == 0 or message.value
    assert CASES // 10 < refused < CASES


@pytest.mark.parametrize("rows", [2**24 + 1, 2**62])
def test_sizes_that_no_machine_has_are_refused_before_anything_is_touched(rows):
    case = Case(random.Random(3))
    case.maybe = lambda value, wild, share=0: value
    assert case.create() == 0
    message = ctypes.create_string_buffer(library.MESSAGE)
    token = library.addresses([0])
    status = library.library().unrolled_decoder_read(case.decoder, rows, 1, token, token, None, 0, 1, message)
    case.close()
    assert status != 0
    assert message.value.startswith(b"reading 1 tokens in ")

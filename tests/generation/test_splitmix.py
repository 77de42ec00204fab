import copy

import pytest

from unrolled.generation.splitmix import Random


@pytest.mark.parametrize(
    ("seed", "published"),
    [
        # Rosetta Code, "Pseudo-random numbers/Splitmix64".
        (
            1234567,
            [
                6457827717110365317,
                3203168211198807973,
                9817491932198370423,
                4593380528125082431,
                16408922859458223821,
            ],
        ),
        # The seed sequence of the xoshiro generators of many libraries.
        (0, [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]),
    ],
)
def test_published_numbers(seed: int, published: list[int]) -> None:
    random = Random(seed)
    assert [random.bits() for _ in published] == published


def test_uniform_is_the_top_53_bits() -> None:
    first, second = Random(1234567), Random(1234567)
    for _ in range(1000):
        value = first.uniform()
        assert value == (second.bits() >> 11) / 2**53
        assert 0 <= value < 1


def test_the_state_is_two_integers() -> None:
    random = Random(7)
    for _ in range(5):
        random.uniform()
    copies = [copy.copy(random), Random(random.seed, random.counter)]
    following = random.bits()
    assert [other.bits() for other in copies] == [following] * 2


def test_seeds_beyond_64_bits_wrap() -> None:
    assert Random(2**64 + 3).bits() == Random(3).bits()
    assert Random(2**64 - 1).bits() < 2**64

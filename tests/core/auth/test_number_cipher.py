"""Sealed numbers open to what they were, and tell nobody else anything."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from waitd.core.auth.number_cipher import CIPHERTEXTS, NUMBERS, SALTS, NumberCipher

secrets = st.integers(0, 2**64 - 1)
numbers = st.integers(0, NUMBERS - 1)
salts = st.integers(0, SALTS - 1)


@given(secrets, numbers, salts)
def test_what_was_sealed_opens_to_what_it_was(secret: int, number: int, salt: int) -> None:
    sealed = NumberCipher(secret).encrypt(number, salt)
    assert 0 <= sealed < CIPHERTEXTS
    assert NumberCipher(secret).decrypt(sealed) == number


@given(secrets, st.integers(0, CIPHERTEXTS - 1))
def test_anything_opens_to_some_number(secret: int, sealed: int) -> None:
    assert 0 <= NumberCipher(secret).decrypt(sealed) < NUMBERS


def test_neither_order_nor_distance_nor_sameness_shows() -> None:
    seal = NumberCipher(7)
    followed = [seal.encrypt(n, 0) for n in range(1000)]
    distances = {b - a for a, b in pairwise(followed)}
    assert len(set(followed)) == len({abs(distance) for distance in distances}) + 1 == 1000
    assert 400 < sum(distance > 0 for distance in distances) < 600
    assert len({seal.encrypt(5, salt) for salt in range(1000)}) == 1000


def test_another_secret_seals_and_opens_otherwise() -> None:
    assert NumberCipher(1).encrypt(5, 0) != NumberCipher(2).encrypt(5, 0)
    assert NumberCipher(2).decrypt(NumberCipher(1).encrypt(5, 0)) != 5

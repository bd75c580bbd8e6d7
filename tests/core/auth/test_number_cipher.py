"""Encrypted numbers decrypt to themselves and reveal neither order nor distance."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from waitd.core.auth.number_cipher import CIPHERTEXTS, NUMBERS, SALTS, NumberCipher

secrets = st.integers(0, 2**64 - 1)
numbers = st.integers(0, NUMBERS - 1)
salts = st.integers(0, SALTS - 1)


@given(secrets, numbers, salts)
def test_a_ciphertext_decrypts_to_its_number(secret: int, number: int, salt: int) -> None:
    ciphertext = NumberCipher(secret).encrypt(number, salt)
    assert 0 <= ciphertext < CIPHERTEXTS
    assert NumberCipher(secret).decrypt(ciphertext) == number


@given(secrets, st.integers(0, CIPHERTEXTS - 1))
def test_any_ciphertext_decrypts_to_some_number(secret: int, ciphertext: int) -> None:
    assert 0 <= NumberCipher(secret).decrypt(ciphertext) < NUMBERS


def test_ciphertexts_hide_order_distance_and_equality() -> None:
    cipher = NumberCipher(7)
    ciphertexts = [cipher.encrypt(n, 0) for n in range(1000)]
    distances = {b - a for a, b in pairwise(ciphertexts)}
    assert len(set(ciphertexts)) == len({abs(distance) for distance in distances}) + 1 == 1000
    assert 400 < sum(distance > 0 for distance in distances) < 600
    assert len({cipher.encrypt(5, salt) for salt in range(1000)}) == 1000


def test_another_secret_encrypts_and_decrypts_differently() -> None:
    assert NumberCipher(1).encrypt(5, 0) != NumberCipher(2).encrypt(5, 0)
    assert NumberCipher(2).decrypt(NumberCipher(1).encrypt(5, 0)) != 5

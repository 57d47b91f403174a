"""Random words are the cipher's, and no process, thread or object ever repeats another's (P13)."""

from __future__ import annotations

import copy
import multiprocessing
import os
import pickle
import subprocess
import sys
import textwrap
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR
from numpy.typing import NDArray
from scipy import stats

from common.privacy import keystream
from common.privacy.keystream import Keystream

KEY, COUNTER = bytes(range(32)), bytes(range(100, 116))
ROOT = Path(__file__).resolve().parents[3]
forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="the system cannot fork")


@pytest.fixture
def fixed_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the operating system hand out KEY and COUNTER."""
    monkeypatch.setattr("common.privacy.keystream.os.urandom", lambda size: (KEY + COUNTER)[:size])


class TestKnownAnswers:
    """Words are AES-256 in counter mode over zeros."""

    def test_p13_words_are_those_of_nist_sp_800_38a(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Appendix F.5.5, CTR-AES256.Encrypt: the key stream is plaintext xor ciphertext."""
        key = bytes.fromhex("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4")
        counter = bytes.fromhex("f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff")
        plain = bytes.fromhex(
            "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51"
            "30c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710"
        )
        sent = bytes.fromhex(
            "601ec313775789a5b7a7f504bbf3d228f443e3ca4d62b59aca84e990cacaf5c5"
            "2b0930daa23de94ce87017ba2d84988ddfc9c58db67aada613c2dd08457941a6"
        )
        monkeypatch.setattr("common.privacy.keystream.os.urandom", lambda size: (key + counter)[:size])
        wanted = bytes(one ^ two for one, two in zip(plain, sent, strict=True))
        assert Keystream().words(8).tobytes() == wanted

    @pytest.mark.usefixtures("fixed_secret")
    @pytest.mark.parametrize("sizes", [[1], [3, 1, 5], [2**15 - 1, 2, 2**16 + 7], [0, 4, 0, 4]])
    def test_p13_words_go_on_where_the_last_call_ended(self, sizes: list[int]) -> None:
        wanted = Cipher(AES(KEY), CTR(COUNTER)).encryptor().update(bytes(8 * sum(sizes)))
        stream = Keystream()
        assert b"".join(stream.words(size).tobytes() for size in sizes) == wanted

    def test_p13_the_key_is_256_bits_and_the_counter_128_of_the_operating_system(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked: list[int] = []
        real = os.urandom
        monkeypatch.setattr("common.privacy.keystream.os.urandom", lambda size: asked.append(size) or real(size))
        Keystream().words(1)
        assert asked == [48]

    def test_p13_a_new_key_is_taken_before_the_limit(self, monkeypatch: pytest.MonkeyPatch) -> None:
        taken: list[int] = []
        real = os.urandom
        monkeypatch.setattr(keystream, "WORDS_PER_KEY", 100)
        monkeypatch.setattr("common.privacy.keystream.os.urandom", lambda size: taken.append(size) or real(size))
        stream = Keystream()
        stream.words(60)
        stream.words(40)
        assert len(taken) == 1
        stream.words(1)
        assert len(taken) == 2


def in_a_child(draw: Callable[[], NDArray[np.uint64]]) -> bytes:
    """What ``draw`` returns in a forked process."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writer, draw().tobytes())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as stream:
        found = stream.read()
    os.waitpid(child, 0)
    return found


@forks
class TestForks:
    """A forked process begins a stream of its own. Two equal streams of 16 words: once in 2^1024."""

    def test_p13_a_fork_never_repeats_its_parent_or_its_siblings(self) -> None:
        stream = Keystream()
        stream.words(3)
        found = [in_a_child(lambda: stream.words(16)) for _ in range(3)]
        found.append(stream.words(16).tobytes())
        assert all(len(each) == 128 for each in found)
        assert len({each[i : i + 8] for each in found for i in range(0, 128, 8)}) == 64

    def test_p13_a_grandchild_whose_parent_never_drew_repeats_nobody(self) -> None:
        stream = Keystream()
        stream.words(3)

        def grandchild() -> NDArray[np.uint64]:
            return np.frombuffer(in_a_child(lambda: stream.words(16)), np.uint64)

        assert in_a_child(grandchild) != stream.words(16).tobytes()

    def test_p13_a_process_that_was_given_its_parents_number_repeats_nothing(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Numbers of processes are used again; the count of forks tells them apart."""
        number = os.getpid()
        monkeypatch.setattr("common.privacy.keystream.os.getpid", lambda: number)
        stream = Keystream()
        stream.words(3)
        assert in_a_child(lambda: stream.words(16)) != stream.words(16).tobytes()

    def test_p13_a_fork_that_skipped_pythons_hooks_repeats_nothing(self) -> None:
        stream = Keystream()
        stream.words(3)
        assert in_a_child(lambda: self._uncounted(stream)) != stream.words(16).tobytes()

    def test_p13_without_both_defences_a_fork_repeats_the_stream(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Negative control: these tests can fail."""
        number = os.getpid()
        monkeypatch.setattr("common.privacy.keystream.os.getpid", lambda: number)
        stream = Keystream()
        stream.words(3)
        assert in_a_child(lambda: self._uncounted(stream)) == stream.words(16).tobytes()

    @staticmethod
    def _uncounted(stream: Keystream) -> NDArray[np.uint64]:
        keystream._forks -= 1
        return stream.words(16)

    def test_p13_workers_of_a_forkserver_share_no_stream(self, tmp_path: Path) -> None:
        """The server itself has drawn from the module's stream before it forks its workers."""
        (tmp_path / "preloaded.py").write_text(
            textwrap.dedent("""
                from common.privacy.keystream import Keystream
                STREAM = Keystream()
                BEFORE = STREAM.words(1)[0]
                def draw(_):
                    return [int(BEFORE), *STREAM.words(4).tolist()]
            """)
        )
        script = tmp_path / "script.py"
        script.write_text(
            textwrap.dedent("""
                import multiprocessing, preloaded
                if __name__ == "__main__":
                    context = multiprocessing.get_context("forkserver")
                    context.set_forkserver_preload(["preloaded"])
                    for _ in range(4):
                        with context.Pool(1) as pool:
                            print(*pool.map(preloaded.draw, [0])[0])
            """)
        )
        path = os.pathsep.join([str(ROOT), str(tmp_path)])
        ended = subprocess.run(
            [sys.executable, str(script)],
            env={**os.environ, "PYTHONPATH": path},
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        )
        rows = [line.split() for line in ended.stdout.splitlines()]
        assert len(rows) == 4
        assert len({row[0] for row in rows}) == 1, "the workers do come from one server that had drawn"
        assert len({word for row in rows for word in row[1:]}) == 16

    def test_p13_workers_of_a_fork_pool_share_no_stream(self) -> None:
        stream = Keystream()
        stream.words(1)
        found = []
        for _ in range(3):
            with multiprocessing.get_context("fork").Pool(1, initializer=_inherit, initargs=(stream,)) as pool:
                found.append(tuple(pool.map(_draw, [16])[0]))
        assert len({*found, tuple(stream.words(16).tolist())}) == 4


_inherited: list[Keystream] = []


def _inherit(stream: Keystream) -> None:
    _inherited.append(stream)


def _draw(count: int) -> list[int]:
    return _inherited[0].words(count).tolist()


class TestOneStreamEach:
    """Threads and objects."""

    def test_p13_threads_of_one_object_share_no_stream(self) -> None:
        stream = Keystream()
        with ThreadPoolExecutor(8) as pool:
            words = np.concatenate(list(pool.map(stream.words, [1000] * 64)))
        assert len(np.unique(words)) == 64_000

    def test_p13_two_objects_share_no_stream(self) -> None:
        assert not np.intersect1d(Keystream().words(1000), Keystream().words(1000)).size

    @pytest.mark.parametrize("way", [copy.copy, copy.deepcopy, pickle.dumps])
    def test_p13_a_stream_cannot_be_copied_or_saved(self, way: Callable[[Keystream], object]) -> None:
        stream = Keystream()
        for _ in range(2):
            with pytest.raises(TypeError, match="a copy would repeat its words; make a new one"):
                way(stream)
            stream.words(1)

    def test_p13_nothing_of_it_shows(self) -> None:
        stream = Keystream()
        stream.words(1)
        assert repr(stream).startswith("<common.privacy.keystream.Keystream object at")


class TestUniform:
    """Words look random: chi-square over the values of each of a word's bytes."""

    @staticmethod
    def faults(words: NDArray[np.uint64]) -> list[int]:
        """Places of bytes that are not uniform. False alarms: 8e-10 in all."""
        columns = words.view(np.uint8).reshape(-1, 8).T
        return [
            place
            for place, column in enumerate(columns)
            if stats.chisquare(np.bincount(column, minlength=256)).pvalue < 1e-10
        ]

    def test_p13_every_byte_of_a_word_is_uniform(self) -> None:
        assert self.faults(Keystream().words(2**18)) == []

    def test_p13_a_byte_with_a_stuck_bit_is_found(self) -> None:
        """Negative control."""
        assert self.faults(Keystream().words(2**18) | np.uint64(1)) == [0]

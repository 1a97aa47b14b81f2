"""``make fuzz``: changed files for every parser of what a stranger may send, until the time is over.

Each parser gets its share of ``--seconds`` in a process of its own, with bounded memory. A failure is any error but
topwork's own, a crash, a lack of memory or 60 seconds for one file; the file is kept and the exit code is 1.

    python tests/fuzz/fuzz.py --seconds 60 [--seed N] [TARGET ...]
    python tests/fuzz/fuzz.py --again FILE TARGET      one file again, with its traceback
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))  # for tampering

from targets import TARGETS, Target

from topwork.errors import TopworkError

MEMORY = 6 * 2**30  # bytes of a process's address space
PATIENCE = 60  # seconds for one file
STARTING = 120  # seconds until a process is at its first file
KEPT = Path("fuzz-failures")
WORDS = (
    *(
        b"\0",
        b"\xff" * 4,
        b"\0" * 4,
        b"\x7f\xff\xff\xff",
        b"[" * 3000,
        b"(" * 300,
        b"'",
        b'"',
        b"9" * 400,
        b"NaN",
        b"-1",
    ),
    *(b"-1", b"1e999", b"../", b"::", b"%s", b"\xe2\x80\xae", b"__class__", b"{}", b"null", b"\r\n", b"A" * 5000),
)


def changed(corpus: list[bytes], random: np.random.Generator) -> bytes:
    """One of the files with a few changes."""
    data = bytearray(corpus[random.integers(len(corpus))])
    for _ in range(random.integers(1, 6)):
        at, other = int(random.integers(len(data) + 1)), int(random.integers(len(data) + 1))
        length = int(random.geometric(0.1))
        kind = random.integers(7)
        if kind == 0 and data:
            data[at % len(data)] ^= 1 << int(random.integers(8))
        elif kind == 1 and data:
            data[at % len(data)] = int(random.integers(256))
        elif kind == 2:
            del data[at : at + length]
        elif kind == 3:
            data[at:at] = data[other : other + length]
        elif kind == 4:
            word = WORDS[random.integers(len(WORDS))]
            data[at : at + (len(word) if random.random() < 0.5 else 0)] = word
        elif kind == 5:
            data[at : at + length] = random.bytes(length)
        elif random.random() < 0.2:
            data = data[:at]
    return bytes(data)


def work(name: str, seed: int, seconds: float, place: Path) -> int:
    """Give one parser changed files; the one at work lies in ``place``. Returns 1 after an error that is not ours."""
    bound_memory()
    warnings.simplefilter("ignore")
    target = TARGETS[name]
    corpus = target.corpus()
    for data in corpus:
        attempt(target, data)
    begun, count, refused = time.monotonic(), 0, 0
    while time.monotonic() - begun < seconds:
        data = changed(corpus, np.random.default_rng([seed, count]))
        (place / "current").write_bytes(data)
        try:
            refused += not attempt(target, data)
        except Exception:
            traceback.print_exc()
            return 1
        count += 1
    sys.stdout.write(json.dumps({"files": count, "refused": refused}) + "\n")
    return 0


def attempt(target: Target, data: bytes) -> bool:
    """Whether a file is taken; topwork's own errors refuse it, others are raised."""
    folder = Path(tempfile.mkdtemp(prefix="topwork-fuzz-"))
    try:
        target.check(data, folder)
    except TopworkError as error:
        if "\n" in str(error) or len(str(error)) > 2000:
            raise ValueError(f"not one sentence: {str(error)[:3000]!r}") from error
        return False
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return True


def bound_memory() -> None:
    try:
        import resource
    except ImportError:  # Windows
        return
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))


def fuzz(name: str, seed: int, seconds: float) -> bool:
    """Whether a parser stood its time."""
    with tempfile.TemporaryDirectory(prefix="topwork-fuzz-") as folder:
        current = Path(folder) / "current"
        command = [sys.executable, __file__, name, "--worker", folder, "--seed", str(seed), "--seconds", str(seconds)]
        with (Path(folder) / "said").open("w+") as said:
            worker = subprocess.Popen(command, stdout=said, stderr=subprocess.STDOUT)
            why = watch(worker, current)
            said.seek(0)
            text = said.read()
        if not why:
            say(f"{name}: {text.strip().splitlines()[-1]}")
            return True
        KEPT.mkdir(exist_ok=True)
        kept = KEPT / f"{name}-{seed}-{int(time.time())}"
        if current.exists():
            shutil.copy(current, kept)
        say(f"{name}: {why}; the file is {kept}\n{text[-3000:]}")
        return False


def watch(worker: "subprocess.Popen[bytes]", current: Path) -> str:
    """Wait for a worker; what went wrong, or "" where nothing did."""
    begun = time.time()
    while (code := worker.poll()) is None:
        time.sleep(0.2)
        since = current.stat().st_mtime if current.exists() else begun - PATIENCE + STARTING
        if time.time() - since > PATIENCE:
            worker.kill()
            worker.wait()
            return f"one file took more than {PATIENCE} s"
    if code == 0:
        return ""
    return f"ended by signal {-code}" if code < 0 else "an error that is not topwork's"


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(TARGETS))
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--again", type=Path, help="a file that was kept")
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    names = given.targets or list(TARGETS)
    if unknown := [name for name in names if name not in TARGETS]:
        parser.error(f"there is no target {unknown[0]}")
    if given.worker:
        return work(names[0], given.seed, given.seconds, given.worker)
    if given.again:
        say("taken" if attempt(TARGETS[names[0]], given.again.read_bytes()) else "refused")
        return 0
    say(f"seed {given.seed}")
    stood = [fuzz(name, given.seed, given.seconds / len(names)) for name in names]
    return 0 if all(stood) else 1


if __name__ == "__main__":
    sys.exit(main())

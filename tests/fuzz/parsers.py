"""Coverage-guided fuzzing of the readers with atheris (libFuzzer); see CONTRIBUTING.md.

``python -m tests.fuzz.parsers -max_total_time=300`` damages small good files of all formats;
``python -m tests.fuzz.parsers .nii .dcm`` those of some. Whatever is neither pixels nor an
`InputError` in one sentence is a finding: its bytes are written to the working folder as
``found-HASH.SUFFIX``. Put it into ``tests/fuzz/found`` under a telling name, and
`tests/io/test_fuzz.py` opens it from then on.
"""

from __future__ import annotations

import hashlib
import sys
import tempfile
from pathlib import Path


def main() -> None:
    """Run libFuzzer; it exits by itself."""
    import atheris

    with atheris.instrument_imports(include=["digseg.io"]):
        from digseg.io import registry

        for item in registry.FORMATS:
            _ = item.code  # imported now, so that its branches count
        from tests.fuzz.seeds import SEEDS, problem, write

    options = [word for word in sys.argv[1:] if word not in SEEDS]
    suffixes = [word for word in sys.argv[1:] if word in SEEDS] or sorted(SEEDS)
    folder = Path(tempfile.mkdtemp(prefix="digseg-fuzz-"))
    corpus = folder / "corpus"
    corpus.mkdir()
    # The first byte says which format the rest is.
    for number, suffix in enumerate(suffixes):
        (corpus / f"seed{suffix}").write_bytes(bytes([number]) + SEEDS[suffix])

    def one(content: bytes) -> None:
        if not content:
            return
        suffix, rest = suffixes[content[0] % len(suffixes)], content[1:]
        # Removed again where all is well; a crash of a C library leaves it as well.
        found = Path(f"found-{hashlib.sha256(rest).hexdigest()[:12]}{suffix}")
        found.write_bytes(rest)
        error = problem(write(folder, suffix, rest))
        if error is not None and (not str(error).endswith(".") or "\n" in str(error)):
            raise ValueError(f"no sentence: {error}")
        found.unlink()

    limits = ["-rss_limit_mb=1500", "-timeout=60", "-max_len=8192"]
    atheris.Setup([sys.argv[0], *limits, *options, str(corpus)], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()

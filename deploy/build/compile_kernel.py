"""Compile the matching kernel, where there is a compiler.

    python deploy/build/compile_kernel.py

The bootstrap runs this after it has linked the checkout into an environment, and the
wheel's build hook imports it. It needs the standard library, a C compiler and
Python's headers, and no network. Without any of these nothing is lost but speed: the
node falls back to numpy. `CC` names another compiler; a name that does not exist
(`CC=none`) means to compile nothing.

The compiled file says from which source it was made, so what is current is left alone.
"""

import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
FOLDER = CHECKOUT / "node" / "hashlight_node" / "matching" / "index"
SOURCE = FOLDER / "_kernel.c"
KERNEL = FOLDER / "_kernel.abi3.so"

OPTIMISED = ("-std=c11", "-O3", "-fPIC", "-fvisibility=hidden", "-shared")
# Every x86-64 processor since 2009, and the only step up that measurably helps.
TARGETS = {"x86_64": ("-march=x86-64-v2",), "AMD64": ("-march=x86-64-v2",)}
HARDENED = {
    "linux": (
        "-fstack-protector-strong",
        "-U_FORTIFY_SOURCE",
        "-D_FORTIFY_SOURCE=2",
        "-Wl,-z,relro,-z,now,-z,noexecstack",
    ),
    # Python's own names are found when the interpreter loads the file.
    "darwin": ("-fstack-protector-strong", "-undefined", "dynamic_lookup"),
}
# A file for another processor must fail here and not in a node.
TRIAL = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("_kernel", sys.argv[1])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
module.View((), (), tuple).search(bytes(32), 31, 1)
"""


class NotCompiledError(Exception):
    """There is no compiled kernel; the message says why in a few words."""


def main() -> int:
    """Make the checkout's kernel current, and say what came of it if that changed.

    Returns:
        Exit code, always 0: whatever comes of it, the node works.
    """
    if not SOURCE.exists() or is_current(KERNEL):
        return 0
    started = time.monotonic()
    try:
        compile_kernel(KERNEL)
    except NotCompiledError as error:
        KERNEL.unlink(missing_ok=True)  # of an older source
        tell_once(f"matching uses numpy, the compiled kernel was not made: {error}")
    else:
        tell_once(f"matching kernel compiled, {time.monotonic() - started:.0f} s")
    return 0


def tell_once(sentence: str) -> None:
    """Print a line, but none about the same failure at every make."""
    told = Path(sys.prefix) / "hashlight-kernel.txt"
    line = sentence + "\n" + source_digest()
    is_failure = not KERNEL.exists()
    if is_failure and told.exists() and told.read_text("utf-8") == line:
        return
    print(f"hashlight: {sentence}")
    if sys.prefix != sys.base_prefix:  # an environment, so a place of ours
        told.write_text(line, "utf-8")


def source_digest() -> str:
    """Name what decides how the compiled file looks, besides the compiler."""
    content = SOURCE.read_bytes() + Path(__file__).read_bytes()
    return hashlib.sha256(content + platform.machine().encode()).hexdigest()


def is_current(kernel: Path) -> bool:
    """Tell whether a compiled file was made from the source as it is."""
    return kernel.exists() and source_digest().encode() in kernel.read_bytes()


def compile_kernel(kernel: Path) -> None:
    """Compile the kernel and try it.

    Args:
        kernel: The file to make; another process never sees a part of it.

    Raises:
        NotCompiledError: It is as it was.
    """
    include = Path(sysconfig.get_path("include"))
    if not (include / "Python.h").exists():
        raise NotCompiledError("Python's headers are not installed")
    hardened = HARDENED.get(sys.platform)
    if hardened is None:
        raise NotCompiledError(f"not for {sys.platform}")
    command = [*find_compiler(), *OPTIMISED, *hardened, f"-I{include}"]
    command += [f'-DSOURCE_DIGEST="{source_digest()}"']
    with tempfile.TemporaryDirectory(dir=kernel.parent, prefix=".kernel-") as folder:
        made = Path(folder) / kernel.name
        target = TARGETS.get(platform.machine(), ())
        # Compilers before 2020 know the processors but not this name for them.
        for some in dict.fromkeys((target, ())):
            arguments = [*command, *some, str(SOURCE), "-o", str(made)]
            compiled = subprocess.run(arguments, check=False, capture_output=True)
            if compiled.returncode == 0:
                break
        else:
            raise NotCompiledError(f"{command[0]} failed")
        trial = [sys.executable, "-I", "-c", TRIAL, str(made)]
        if subprocess.run(trial, check=False, capture_output=True).returncode:
            raise NotCompiledError("what was compiled does not run here")
        made.replace(kernel)


def find_compiler() -> list[str]:
    """Give the C compiler as a command.

    Raises:
        NotCompiledError: There is none, or not the one that `CC` names.
    """
    asked = os.environ.get("CC")
    for name in [asked] if asked else ["cc", "gcc", "clang"]:
        command = shlex.split(name)
        if command and shutil.which(command[0]):
            return command
    raise NotCompiledError("no C compiler")


if __name__ == "__main__":
    sys.exit(main())

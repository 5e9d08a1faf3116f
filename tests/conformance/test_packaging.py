"""What is installed is what lies in the code folders, from a lock that fits."""

import importlib.util
import os
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from configparser import ConfigParser
from pathlib import Path
from types import ModuleType

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import hashlight_node

CHECKOUT = Path(__file__).resolve().parents[2]
BOOTSTRAP = CHECKOUT / "deploy" / "bootstrap"
BUILD = CHECKOUT / "deploy" / "build"
INDEX = Path("hashlight_node/matching/index")
KERNEL = (INDEX / "_kernel.abi3.so").as_posix()
PACKAGES = {
    "hashlight_protocol": CHECKOUT / "protocol",
    "hashlight_node": CHECKOUT / "node",
    "hashlight_migrations": CHECKOUT / "migrations",
    "hashlight_client": CHECKOUT / "client",
}
PROJECT = tomllib.loads((CHECKOUT / "pyproject.toml").read_text("utf-8"))
LOCKS = {
    "run.txt": PROJECT["project"]["dependencies"],
    "test.txt": [
        *PROJECT["project"]["dependencies"],
        *PROJECT["dependency-groups"]["protocol"],
        *PROJECT["dependency-groups"]["test"],
    ],
    "dev.txt": [
        *PROJECT["project"]["dependencies"],
        *PROJECT["dependency-groups"]["protocol"],
        *PROJECT["dependency-groups"]["test"],
        *PROJECT["dependency-groups"]["dev"],
    ],
    "protocol.txt": PROJECT["dependency-groups"]["protocol"],
    "deploy.txt": PROJECT["dependency-groups"]["deploy"],
    "oracle.txt": PROJECT["dependency-groups"]["oracle"],
    "bench.txt": [
        *PROJECT["project"]["dependencies"],
        *PROJECT["dependency-groups"]["bench"],
    ],
    "bench-reference.txt": PROJECT["dependency-groups"]["bench-reference"],
}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """Build the wheel as `pip install .` does, but with what is installed already."""
    return built(tmp_path_factory.mktemp("wheel"))


def built(folder: Path, **environment: str) -> zipfile.ZipFile:
    pip = next(BOOTSTRAP.glob("pip-*.whl")) / "pip"
    options = ["--quiet", "--no-index", "--no-deps", "--no-build-isolation"]
    subprocess.run(
        [sys.executable, pip, "wheel", *options, "--wheel-dir", folder, CHECKOUT],
        check=True,
        env=os.environ | environment,
    )
    return zipfile.ZipFile(next(folder.glob("*.whl")))


def test_only_our_packages_reach_site_packages(wheel: zipfile.ZipFile) -> None:
    metadata = f"hashlight-{hashlight_node.__version__}.dist-info"

    assert {name.split("/")[0] for name in wheel.namelist()} == {*PACKAGES, metadata}


def test_every_file_of_the_packages_is_installed(wheel: zipfile.ZipFile) -> None:
    packed = {name for name in wheel.namelist() if ".dist-info/" not in name}

    assert packed - {KERNEL} == {
        file.relative_to(folder).as_posix()
        for package, folder in PACKAGES.items()
        for file in (folder / package).rglob("*")
        if file.is_file() and "__pycache__" not in file.parts and file.suffix != ".so"
    }


def can_compile(folder: Path) -> bool:
    """Tell whether this machine has what compiling takes."""
    script = (
        f"import sys, pathlib; sys.path.insert(0, {str(BUILD)!r}); "
        "import compile_kernel as it; it.compile_kernel(pathlib.Path(sys.argv[1]))"
    )
    command = [sys.executable, "-c", script, str(folder / "_kernel.abi3.so")]
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


def test_the_wheel_has_the_kernel_where_it_can_be_compiled(
    wheel: zipfile.ZipFile, tmp_path: Path
) -> None:
    is_compiled = can_compile(tmp_path)
    tags = Path(str(wheel.filename)).stem.split("-")[2:]

    assert (KERNEL in wheel.namelist()) is is_compiled
    assert (tags[:2] == ["cp311", "abi3"]) is is_compiled
    assert (tags == ["py3", "none", "any"]) is not is_compiled


def test_without_a_compiler_the_wheel_is_for_every_platform(tmp_path: Path) -> None:
    wheel = built(tmp_path, CC="no-such-compiler")

    assert str(wheel.filename).endswith("-py3-none-any.whl")
    assert KERNEL not in wheel.namelist()


@pytest.mark.parametrize(
    "file",
    [
        "hashlight_protocol/py.typed",
        "hashlight_node/py.typed",
        "hashlight_client/py.typed",
        "hashlight_node/demo/photos/ATTRIBUTION.md",
        "hashlight_node/demo/photos/cat.jpg",
        "hashlight_migrations/env.py",
    ],
)
def test_what_is_not_code_is_installed_too(wheel: zipfile.ZipFile, file: str) -> None:
    assert file in wheel.namelist()


def test_the_command_is_the_same_from_a_wheel_and_in_a_checkout(
    wheel: zipfile.ZipFile, bootstrap: ModuleType
) -> None:
    entry_points = ConfigParser()
    name = next(n for n in wheel.namelist() if n.endswith("/entry_points.txt"))
    entry_points.read_string(wheel.read(name).decode())

    command, module, function = bootstrap.ENTRY_POINT
    assert entry_points["console_scripts"][command] == f"{module}:{function}"


def pins(lock: str) -> Iterator[Requirement]:
    """Read the `name==version` lines of a lock file."""
    for line in (CHECKOUT / "requirements" / lock).read_text("utf-8").splitlines():
        if "==" in line and not line.lstrip().startswith("#"):
            yield Requirement(line.rstrip(" \\"))


@pytest.mark.parametrize("lock", LOCKS)
def test_the_lock_fits_what_the_project_asks_for(lock: str) -> None:
    locked: dict[str, set[str]] = {}
    for pin in pins(lock):
        version = next(iter(pin.specifier)).version
        locked.setdefault(canonicalize_name(pin.name), set()).add(version)

    for text in LOCKS[lock]:
        if isinstance(text, str):
            asked = Requirement(text)
            versions = locked[canonicalize_name(asked.name)]
            assert all(version in asked.specifier for version in versions), text


@pytest.mark.parametrize("lock", ["run.txt", "test.txt"])
def test_a_larger_lock_holds_the_smaller_one_unchanged(lock: str) -> None:
    assert {str(pin) for pin in pins(lock)} <= {str(pin) for pin in pins("dev.txt")}


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_names_no_place_to_download_from(lock: str) -> None:
    text = (CHECKOUT / "requirements" / lock).read_text("utf-8")

    assert "://" not in text
    assert not any(line.startswith("-") for line in text.splitlines())


@pytest.mark.parametrize("text", PROJECT["project"]["dependencies"])
def test_every_dependency_ends_before_a_next_major_release(text: str) -> None:
    operators = {specifier.operator for specifier in Requirement(text).specifier}

    assert operators == {">=", "<"}


@pytest.fixture(scope="module")
def bootstrap() -> ModuleType:
    """Import the script that makes the virtual environment."""
    spec = importlib.util.spec_from_file_location(
        "hashlight_bootstrap", BOOTSTRAP / "bootstrap.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def empty_checkout(tmp_path: Path) -> Path:
    """Copy what the bootstrap needs, with locks that hold no package."""
    checkout = tmp_path / "a checkout's copy"
    (checkout / "deploy" / "bootstrap").mkdir(parents=True)
    for file in BOOTSTRAP.glob("*.*"):
        (checkout / "deploy" / "bootstrap" / file.name).write_bytes(file.read_bytes())
    package = checkout / "node" / "hashlight_node"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "cli.py").write_text("def main(): return print('the node') or 7\n")
    (checkout / "requirements").mkdir()
    for lock in LOCKS:
        (checkout / "requirements" / lock).touch()
    return checkout


def make_ready(
    checkout: Path, *profiles: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a checkout's bootstrap script."""
    return subprocess.run(
        [sys.executable, checkout / "deploy" / "bootstrap" / "bootstrap.py", *profiles],
        check=False,
        capture_output=True,
        text=True,
        env=os.environ
        | {"PIP_NO_INDEX": "1", "COVERAGE_PROCESS_START": ""}
        | environment,
    )


def test_a_bare_python_gets_the_command(empty_checkout: Path) -> None:
    made = make_ready(empty_checkout, "run")
    command = empty_checkout / ".venv" / "bin" / "hashlight"
    ran = subprocess.run([command], check=False, capture_output=True, text=True)

    assert made.returncode == 0, made.stderr
    assert (ran.returncode, ran.stdout) == (7, "the node\n")


def test_a_ready_environment_is_left_alone(empty_checkout: Path) -> None:
    make_ready(empty_checkout, "dev")
    again = make_ready(empty_checkout, "dev", "test", "run")

    assert (again.returncode, again.stdout) == (0, "")


@pytest.fixture
def checkout_with_kernel(empty_checkout: Path) -> Path:
    """Copy what compiling the kernel needs, too."""
    for source, target in (
        (BUILD / "compile_kernel.py", Path("deploy/build")),
        (CHECKOUT / "node" / INDEX / "_kernel.c", "node" / INDEX),
    ):
        (empty_checkout / target).mkdir(parents=True)
        (empty_checkout / target / source.name).write_bytes(source.read_bytes())
    return empty_checkout


def test_the_kernel_is_compiled_when_its_source_changes(
    checkout_with_kernel: Path, tmp_path: Path
) -> None:
    if not can_compile(tmp_path):
        pytest.skip("there is no C compiler, or no headers of Python")
    source = checkout_with_kernel / "node" / INDEX / "_kernel.c"
    made = make_ready(checkout_with_kernel, "run")
    first = source.with_name("_kernel.abi3.so").read_bytes()
    again = make_ready(checkout_with_kernel, "run")
    source.write_text(source.read_text("utf-8") + "\n", "utf-8")
    changed = make_ready(checkout_with_kernel, "run")

    assert "hashlight: matching kernel compiled" in made.stdout
    assert again.stdout == ""
    assert "hashlight: matching kernel compiled" in changed.stdout
    assert source.with_name("_kernel.abi3.so").read_bytes() != first
    assert {file.name for file in source.parent.iterdir()} == {
        "_kernel.c",
        "_kernel.abi3.so",
    }


def test_without_a_compiler_the_bootstrap_says_so_once(
    checkout_with_kernel: Path,
) -> None:
    kernel = checkout_with_kernel / "node" / INDEX / "_kernel.abi3.so"
    kernel.write_bytes(b"of an older source")
    made = make_ready(checkout_with_kernel, "run", CC="no-such-compiler")
    again = make_ready(checkout_with_kernel, "run", CC="no-such-compiler")

    assert made.returncode == again.returncode == 0
    assert "matching uses numpy" in made.stdout
    assert "no C compiler" in made.stdout
    assert again.stdout == ""
    assert not kernel.exists()


@pytest.mark.parametrize("wrong", ["#error", "int no_module;"])
def test_a_kernel_that_does_not_compile_or_load_is_left_out(
    checkout_with_kernel: Path, tmp_path: Path, wrong: str
) -> None:
    if not can_compile(tmp_path):
        pytest.skip("there is no C compiler, or no headers of Python")
    source = checkout_with_kernel / "node" / INDEX / "_kernel.c"
    source.write_text(wrong, "utf-8")
    made = make_ready(checkout_with_kernel, "run")

    assert made.returncode == 0
    assert "matching uses numpy" in made.stdout
    assert [file.name for file in source.parent.iterdir()] == ["_kernel.c"]


def test_a_changed_lock_makes_the_environment_anew(empty_checkout: Path) -> None:
    make_ready(empty_checkout, "test")
    leftover = empty_checkout / ".venv" / "leftover"
    leftover.touch()
    (empty_checkout / "requirements" / "test.txt").write_text("# another\n")
    again = make_ready(empty_checkout, "run")

    assert again.returncode == 0, again.stderr
    assert not leftover.exists()


def test_an_environment_of_somebody_else_is_not_touched(empty_checkout: Path) -> None:
    file = empty_checkout / ".venv" / "mine"
    file.parent.mkdir()
    file.touch()
    refused = make_ready(empty_checkout, "run")

    assert refused.returncode == 1
    assert "was not made by this script" in refused.stderr
    assert file.exists()


def test_an_altered_pip_is_not_run(empty_checkout: Path) -> None:
    pip = next((empty_checkout / "deploy" / "bootstrap").glob("pip-*.whl"))
    pip.write_bytes(pip.read_bytes() + b"\0")
    refused = make_ready(empty_checkout, "run")

    assert refused.returncode == 1
    assert "is not the file it should be" in refused.stderr

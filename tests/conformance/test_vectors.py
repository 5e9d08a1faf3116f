"""The committed vectors are what their generators make, and each has an origin."""

import json
import runpy
from pathlib import Path

import pytest

VECTORS = Path(__file__).resolve().parents[1] / "vectors"
GENERATORS = sorted(VECTORS.glob("generate_*.py"))
FILES = sorted(VECTORS.glob("*.json"))


@pytest.mark.parametrize("generator", GENERATORS, ids=lambda file: file.stem)
def test_a_generator_makes_what_is_committed(generator: Path) -> None:
    build = runpy.run_path(str(generator))["build"]
    try:
        made = build()
    except ModuleNotFoundError as error:
        # Vectors that come from another implementation can be made only with it.
        pytest.skip(f"{error.name} is not installed")

    assert made == {name: (VECTORS / name).read_text("utf-8") for name in made}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_the_readme_names_the_origin_of_every_file(file: Path) -> None:
    assert f"`{file.name}`" in (VECTORS / "README.md").read_text("utf-8")


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_vector_file_is_one_json_document(file: Path) -> None:
    assert json.loads(file.read_text("utf-8"))

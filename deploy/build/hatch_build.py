"""What hatchling runs while it builds the wheel: compile the matching kernel.

With it the wheel is for one platform and every Python from 3.11 on; without a
compiler it is the same wheel for all platforms, and matching uses numpy.
"""

import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from packaging.tags import sys_tags

sys.path.insert(0, str(Path(__file__).resolve().parent))

from compile_kernel import (
    KERNEL,
    NotCompiledError,
    compile_kernel,
)

PACKED = "hashlight_node/matching/index/_kernel.abi3.so"


class KernelHook(BuildHookInterface[Any]):
    """Adds the compiled kernel to the wheel if it can be made."""

    _folder: tempfile.TemporaryDirectory[str] | None = None

    # The build environment has no `override` before Python 3.12.
    def initialize(  # type: ignore[explicit-override]
        self, version: str, build_data: dict[str, Any]
    ) -> None:
        """Compile, and tell hatchling what the wheel holds.

        Args:
            version: `standard`, or `editable`, where the checkout's own file counts.
            build_data: What the wheel is made of; changed in place.
        """
        if version == "editable":
            return
        self._folder = tempfile.TemporaryDirectory()
        kernel = Path(self._folder.name) / KERNEL.name
        try:
            compile_kernel(kernel)
        except NotCompiledError as error:
            self.app.display_warning(f"no compiled matching kernel: {error}")
            return
        # Platforms named after a C library promise more than was checked here.
        system = next(
            tag.platform
            for tag in sys_tags()
            if "manylinux" not in tag.platform and "musllinux" not in tag.platform
        )
        build_data["pure_python"] = False
        build_data["tag"] = f"cp311-abi3-{system}"
        build_data["force_include"][str(kernel)] = PACKED

    def finalize(  # type: ignore[explicit-override]
        self, version: str, build_data: dict[str, Any], artifact_path: str
    ) -> None:
        """Remove what was compiled, now that it is packed."""
        del version, build_data, artifact_path
        if self._folder is not None:
            self._folder.cleanup()

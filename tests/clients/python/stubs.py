"""Generates Python stubs from the protos of the repository, once for each state of the protos."""

import contextlib
import hashlib
import importlib.metadata
import importlib.resources
import os
import pathlib
import shutil
import sys
import tempfile

from grpc_tools import protoc

ROOT = pathlib.Path(__file__).resolve().parents[3]
INCLUDES = (ROOT / "proto", ROOT / "tests" / "proto")
FILES = (
    "banqiao/card/v1/card.proto",
    "banqiao/exchange/v1/metadata.proto",
    "banqiao/exchange/v1/options.proto",
    "banqiao/exchange/v1/outcome.proto",
    "banqiao/exchange/v1/reason.proto",
    "example/echo/v1/echo.proto",
    "example/echo/v1/ruled.proto",
)


def generate():
    """Puts the stubs on the module path and returns their folder.

    The folder's name holds a digest of the protos and of the compiler's version, so that nothing stale is ever
    imported; it is made elsewhere and renamed, so that clients that start together do not meet half of it.
    """
    digest = hashlib.sha256(importlib.metadata.version("grpcio-tools").encode())
    for name in FILES:
        digest.update(_source(name).read_bytes())
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache")
    folder = cache / "banqiao" / f"python-stubs-{digest.hexdigest()[:16]}"
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        made = pathlib.Path(tempfile.mkdtemp(dir=folder.parent))
        try:
            _compile(made)
            # Another client may have been faster; its folder is the same.
            with contextlib.suppress(OSError):
                made.rename(folder)
        finally:
            shutil.rmtree(made, ignore_errors=True)
    sys.path.insert(0, str(folder))
    return folder


def _source(name):
    for include in INCLUDES:
        if (include / name).is_file():
            return include / name
    raise FileNotFoundError(f"{name} is in none of the proto folders")


def _compile(folder):
    bundled = importlib.resources.files("grpc_tools") / "_proto"
    includes = [f"-I{include}" for include in (*INCLUDES, bundled)]
    outputs = [f"--python_out={folder}", f"--grpc_python_out={folder}"]
    if protoc.main(["protoc", *includes, *outputs, *FILES]) != 0:
        raise RuntimeError("the protos do not compile")

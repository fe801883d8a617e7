"""The Node.js driver, fetched once; a test that wants it is skipped where node or npm are missing."""

import os
import pathlib
import shutil
import subprocess

import pytest

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
NODE_DRIVER = "mongodb@6.21.0"


def node_driver():
    """(arguments of driver_node.js, environment)."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("node or npm is not installed")
    folder = ROOT / "build/node"
    if not (folder / "node_modules/mongodb/package.json").exists():
        folder.mkdir(parents=True, exist_ok=True)
        install = ["npm", "install", "--no-audit", "--no-fund", "--no-save", "--ignore-scripts"]
        done = subprocess.run(
            [*install, "--prefix", str(folder), NODE_DRIVER],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=200,
        )
        if done.returncode != 0:
            pytest.skip(f"npm could not install {NODE_DRIVER}: {done.stderr[-300:]}")
    environment = {"NODE_PATH": os.fspath(folder / "node_modules")}
    return ["node", str(HERE / "driver_node.js")], environment

"""What each extra downloads, and how much room an environment with it takes, on this platform.

    python benchmarks/install_sizes.py [--python 3.13] [--extras generate train]

The wheel of this tree is built, and uv resolves it with each extra. `download` sums the wheels that this platform
takes, `installed` is measured by installing them into a new environment; `torch` is the part of torch and of what it
brings for GPUs.
"""

import argparse
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
UV = Path(sys.executable).with_name("uv")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", default=sys.executable, help="version or path of the Python to install for")
    parser.add_argument("--extras", nargs="*", help="default: no extra, and each extra of pyproject.toml")
    options = parser.parse_args()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = options.extras if options.extras is not None else ["", *project["optional-dependencies"]]
    print("| extra | packages | download, GB | of it torch | installed, GB |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        call("build", "--quiet", "--wheel", "--out-dir", folder, str(ROOT))
        (wheel,) = Path(folder).glob("*.whl")
        for extra in extras:
            print(row(wheel, extra, options.python, Path(folder) / (extra or "core")), flush=True)


def row(wheel: Path, extra: str, python: str, folder: Path) -> str:
    """Resolve and install the wheel with an extra."""
    folder.mkdir()
    (folder / "in.txt").write_text(f"postmean{f'[{extra}]' if extra else ''} @ {wheel.as_uri()}\n")
    call("venv", "--quiet", "--python", python, str(folder / "venv"))
    executable = str(folder / "venv" / "bin" / "python")
    lock = folder / "pylock.toml"
    compiled = ["--quiet", "--format", "pylock.toml", "--python", executable, "--output-file", str(lock)]
    call("pip", "compile", *compiled, str(folder / "in.txt"))
    call("pip", "install", "--quiet", "--python", executable, "-r", str(folder / "in.txt"))
    packages = [p for p in tomllib.loads(lock.read_text())["packages"] if p["name"] != "postmean"]
    sizes = {p["name"]: (p.get("wheels") or [p.get("sdist") or {"size": 0}])[0]["size"] for p in packages}
    torch = sum(
        size for name, size in sizes.items() if name in ("torch", "triton") or name.startswith(("nvidia", "cuda"))
    )
    used = sum(path.lstat().st_size for path in (folder / "venv").rglob("*") if not path.is_dir())
    figures = (sum(sizes.values()), torch, used)
    return f"| `{extra or 'no extra'}` | {len(sizes)} | " + " | ".join(f"{size / 1e9:.2f}" for size in figures) + " |"


def call(*arguments: str) -> None:
    """Run uv; its errors end the benchmark."""
    done = subprocess.run([UV, *arguments], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)


if __name__ == "__main__":
    main()

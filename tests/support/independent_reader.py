"""A reader of runs written from docs/record-format.md alone: it imports nothing of postmean, and no test helper.

It reads whole runs into memory, slowly and plainly. Names follow the page.
"""

import hashlib
import io
import json
import math
import tarfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import zarr
from scipy.special import ndtri

Columns = dict[str, np.ndarray]


def seal(fields: dict) -> str:
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()


class Run:
    """An opened run: manifest, plan and certificate, each compared with its hash."""

    def __init__(self, out: Path, store: Path) -> None:
        self.out = out
        plain = json.loads((out / "manifest.json").read_text())
        fields = {name: value for name, value in plain.items() if name != "sha256"}
        assert plain["sha256"] == seal(fields)
        assert plain["schema_version"] in (4, 5)
        self.files = fields.pop("files")
        self.manifest = fields
        self.run = seal(fields | {"tuples": 0, "segments": []})
        self.images = np.load(store / "images.npy", mmap_mode="r")
        assert json.loads((store / "header.json").read_text())["fingerprint"] == fields["store_fingerprint"]
        self.labels = np.load(store / "labels.npy") if fields["classes"] else None
        table = pq.read_table(out / "plan.parquet").to_pydict()
        keep = [row for row, first in enumerate(table["first_tuple"]) if first < fields["tuples"]]
        self.plan = [{name: table[name][row] for name in table} for row in keep]
        columns = [[row[name] for row in self.plan] for name in ("first_tuple", "last_tuple", "records")]
        assert hashlib.sha256(np.array(columns, "<i8").tobytes()).hexdigest() == self.files["plan"]
        self.certified_sigma = None
        if fields["estimator"]["certificate"]:
            data = (out / "certified_sigma.npy").read_bytes()
            assert hashlib.sha256(data).hexdigest() == self.files["certified_sigma"]
            self.certified_sigma = np.load(io.BytesIO(data))

    def x(self, entry: np.ndarray) -> np.ndarray:
        """Images of entries in [-1, 1], float32 [n, C, H, W]."""
        n = self.manifest["store_shape"][0]
        pixels = np.array(self.images[entry % n])
        flipped = entry >= n
        pixels[flipped] = pixels[flipped][..., ::-1]
        return pixels.astype(np.float32) * np.float32(1 / 127.5) - np.float32(1)

    def mean(self, columns: Columns, target: str = "mean") -> np.ndarray:
        """All means of these records, dense, [R, C, H, W]."""
        count = columns[f"{target}.count"]
        out = np.empty((len(count), *self.manifest["store_shape"][1:]))
        out[count < 0] = columns[f"{target}.dense"]
        stop = np.cumsum(np.maximum(count, 0))
        for row in np.flatnonzero(count >= 0):
            pairs = slice(stop[row] - count[row], stop[row])
            out[row] = np.tensordot(columns[f"{target}.weight"][pairs], self.x(columns[f"{target}.entry"][pairs]), 1)
        return out

    def shard(self, number: int) -> Columns:
        """The columns of a shard, by the names of the page."""
        row = self.plan[number]
        commit = json.loads((self.out / f"commits/{number:06d}.json").read_text())
        assert commit["run"] == self.run
        assert {name: commit[name] for name in row} == row
        for file in commit["files"]:
            data = (self.out / file["path"]).read_bytes()
            assert (len(data), hashlib.sha256(data).hexdigest()) == (file["size"], file["sha256"])
        shards = self.manifest["shards"]
        read = self._tar if shards["format"] == "webdataset" else self._zarr
        columns = read(number)
        assert len(columns["tuple_id"]) == row["records"]
        if shards["self_contained"]:
            for target in {"mean", "mean_next"} & columns.keys():
                columns[f"{target}.dense"] = columns.pop(target)
                columns[f"{target}.count"] = np.full(row["records"], -1)
        return columns

    def _tar(self, number: int) -> Columns:
        parts: dict[str, list] = {}
        with tarfile.open(self.out / f"shards/{number:06d}.tar") as tar:
            for member in tar.getmembers():
                _, name = member.name.split(".", 1)
                file = tar.extractfile(member)
                assert file is not None
                if name == "json":
                    for key, value in json.load(file).items():
                        parts.setdefault(key, []).append([value])
                else:
                    array = np.load(io.BytesIO(file.read()), allow_pickle=False)
                    is_one = self.manifest["shards"]["self_contained"]
                    parts.setdefault(name.removesuffix(".npy"), []).append(array[None] if is_one else array)
        return {name: np.concatenate(arrays) for name, arrays in parts.items()}

    def _zarr(self, number: int) -> Columns:
        ends = [*self.manifest["segments"], self.manifest["tuples"]]
        segments = [
            [row["shard"] for row in self.plan if low <= row["first_tuple"] < high]
            for low, high in zip([0, *ends], ends, strict=False)
        ]
        segment = next(k for k, shards in enumerate(segments) if number in shards)
        group = zarr.open_group(self.out / (f"targets-{segment:04d}.zarr" if segment else "targets.zarr"), mode="r")
        start = segments[segment].index(number) * self.manifest["shards"]["records_per_shard"]
        rows = slice(start, start + self.plan[number]["records"])
        arrays = {name: np.asarray(array[rows]) for name, array in group.arrays()}
        for target in ("mean", "mean_next"):
            if f"{target}_count" in arrays:
                count = arrays[f"{target}.count"] = arrays.pop(f"{target}_count")
                used = np.arange(arrays[f"{target}_entry"].shape[1]) < count[:, None]
                for name in ("entry", "weight"):
                    arrays[f"{target}.{name}"] = arrays.pop(f"{target}_{name}")[used]
                arrays[f"{target}.dense"] = arrays.pop(target)[count < 0]
        return arrays

    def targets(self) -> Columns:
        """Every tuple of the run: tuple_id, entry, sigma, sigma_next, label, z, x, mean, mean_next."""
        ids = np.arange(self.manifest["tuples"])
        entry, levels = self.entry(ids), [self.levels(n) for n in ids]
        sigma = np.array([level[0] for level in levels], np.float32)
        x = self.x(entry)
        eps = np.stack([self.eps(n) for n in ids]).reshape(x.shape)
        out = {"tuple_id": ids, "sigma": sigma, "x": x, "z": x + sigma[:, None, None, None] * eps}
        if levels[0][1] is not None:
            out["sigma_next"] = np.array([level[1] for level in levels], np.float32)
        if self.labels is not None:
            out["label"] = self.labels[entry % len(self.labels)]
        means = ["mean", "mean_next"] if self.manifest["recipe"]["solver"] == "heun" else ["mean"]
        out |= {target: x.copy() for target in means}
        certified = np.zeros(len(ids), bool)
        if self.certified_sigma is not None and not self.manifest["shards"]["self_contained"]:
            certified = sigma <= self.certified_sigma[entry % self.manifest["store_shape"][0]]
        found = []
        for number in range(len(self.plan)):
            columns = self.shard(number)
            rows = columns["tuple_id"]
            found += rows.tolist()
            for target in means:
                out[target][rows] = self.mean(columns, target)
            for name in {"sigma", "sigma_next", "label", "z"} & columns.keys():
                np.testing.assert_allclose(columns[name], out[name][rows], rtol=1e-5, atol=1e-6)
        assert found == ids[~certified].tolist()
        return out

    def philox(self, use: int, counter: list[int]) -> np.random.Philox:
        return np.random.Philox(
            key=np.array([self.manifest["seed"], use], np.uint64), counter=np.array(counter, np.uint64)
        )

    def entry(self, ids: np.ndarray) -> np.ndarray:
        entries = self.manifest["store_shape"][0] * (2 if self.manifest["recipe"]["flips"] else 1)
        orders = {
            e: np.argsort(self.philox(2, [0, 0, 0, e]).random_raw(entries), kind="stable")
            for e in {*(ids // entries).tolist()}
        }
        return np.array([orders[n // entries][n % entries] for n in ids.tolist()])

    def eps(self, n: int) -> np.ndarray:
        generator = np.random.Generator(self.philox(3, [0, 0, 0, int(n)]))
        return generator.standard_normal(math.prod(self.manifest["store_shape"][1:]), dtype=np.float32)

    def levels(self, n: int) -> tuple[float, float | None]:
        word = int(self.philox(1, [int(n) // 4, 0, 0, 0]).random_raw(4)[n % 4])
        u = ((word >> 12) + 0.5) * 2.0**-52
        noise = self.manifest["recipe"]["noise"]
        kind = noise["kind"]
        if kind in ("lognormal", "ect"):
            sigma = math.exp(noise["P_mean"] + noise["P_std"] * ndtri(u))
            if kind == "lognormal":
                return sigma, None
            stage = min(n // noise["stage_tuples"], 1000)
            shrink = (1 + noise["k"] / (1 + math.exp(noise["b"] * sigma))) / noise["q"] ** (stage + 1)
            return sigma, max(0.0, sigma * (1 - shrink))
        if kind == "ict":
            return ict_levels(noise, int(n), u)
        if kind == "ct":
            return ct_levels(noise, int(n), u)
        if kind == "meanflow":
            a, b = (math.floor(2**26 * u) + 0.5) / 2**26, 2**26 * u % 1
            b = min(1.0, b / noise["differing"]) if noise["differing"] else 1.0
            times = (1 / (1 + math.exp(-(noise["mean"] + noise["std"] * ndtri(p)))) for p in (a**0.5, b * a**0.5))
            t, r = (min(max(each, noise["t_min"]), 1 - noise["t_min"]) for each in times)
            return self.process_sigma(t), self.process_sigma(r)
        if kind == "uniform-t":
            return self.process_sigma(noise["t_min"] + (noise["t_max"] - noise["t_min"]) * u), None
        if kind == "floor":
            return self.of_table(noise["sigma"], noise["density"], u), None
        assert kind == "logit-normal-t"
        t = 1 / (1 + math.exp(-(noise["mean"] + noise["std"] * ndtri(u))))
        return self.process_sigma(min(max(t, noise["t_min"]), 1 - noise["t_min"])), None

    @staticmethod
    def of_table(sigma: list[float], density: list[float], u: float) -> float:
        """By a fine grid: the density is linear in ln sigma between the knots."""
        level = np.linspace(math.log(sigma[0]), math.log(sigma[-1]), 100_001)
        at = np.interp(level, np.log(sigma), density)
        mass = np.concatenate([[0], np.cumsum(at[1:] + at[:-1])])
        return math.exp(np.interp(u, mass / mass[-1], level))

    def process_sigma(self, t: float) -> float:
        process = self.manifest["recipe"]["process"]
        if process["kind"] == "vp":
            return math.sqrt(math.exp(process["beta_d"] * t**2 / 2 + process["beta_min"] * t) - 1)
        if process["kind"] == "flow":
            return t / (1 - t)
        if process["kind"] == "table":
            return math.exp(np.interp(t, process["t_knots"], np.log(process["sigma_knots"])))
        return t


def ct_levels(noise: dict, n: int, u: float) -> tuple[float, float]:
    done = min(n // noise["batch_size"], noise["total_steps"]) / noise["total_steps"]
    levels = math.ceil(math.sqrt(done * ((noise["s1"] + 1) ** 2 - noise["s0"] ** 2) + noise["s0"] ** 2) - 1) + 1
    a, b = (noise[name] ** (1 / noise["rho"]) for name in ("sigma_min", "sigma_max"))
    grid = [(a + i / (levels - 1) * (b - a)) ** noise["rho"] for i in range(levels)]
    grid[0], grid[-1] = noise["sigma_min"], noise["sigma_max"]
    i = math.floor(u * (levels - 1))
    return grid[i + 1], grid[i]


def ict_levels(noise: dict, n: int, u: float) -> tuple[float, float]:
    step = n // noise["batch_size"]
    per_stage = max(1, math.floor(noise["total_steps"] / (math.log2(noise["s1"] // noise["s0"]) + 1)))
    levels = min(noise["s0"] * 2 ** (step // per_stage), noise["s1"]) + 1
    a, b = (noise[name] ** (1 / noise["rho"]) for name in ("sigma_min", "sigma_max"))
    grid = [(a + i / (levels - 1) * (b - a)) ** noise["rho"] for i in range(levels)]
    grid[0], grid[-1] = noise["sigma_min"], noise["sigma_max"]
    edge = [math.erf((math.log(g) - noise["P_mean"]) / (math.sqrt(2) * noise["P_std"])) for g in grid]
    p = np.diff(edge) / (edge[-1] - edge[0])
    i = int((np.cumsum(p)[: levels - 2] <= u).sum())
    return grid[i + 1], grid[i]

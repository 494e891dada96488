"""A folder that `datasets.load_dataset` opens, made of blocks that any process makes, in any order.

    rows(start, stop) --engine--> Arrow blocks in OUT.partial --assemble--> parquet, README.md --rename--> OUT

A block is a pure function of its row numbers and shards are cut from the blocks in order, so the bytes do not
depend on the engine or on interruptions. OUT appears whole or not at all.
"""

import fcntl
import json
import multiprocessing
import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from datasets import DatasetInfo, Features, SplitDict, SplitInfo
from datasets.info import DatasetInfosDict
from datasets.utils.metadata import MetadataConfigs
from huggingface_hub import DatasetCardData, HfApi
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from huggingface_hub.utils import httpx, validate_repo_id
from tqdm import tqdm

BLOCK_ROWS = 2_000
"""Rows that one worker makes at a time, and that a killed build loses at most for each worker."""
GROUP_ROWS = 500
"""Rows of a parquet row group, the least that streaming reads."""
SHARD_ROWS = 10_000

Engine = Literal["local", "ray"]


class BuildError(Exception):
    """What keeps a data set from being built or published, in one line that says what to do."""


@dataclass(frozen=True)
class Cut:
    """How many rows go together, where rows are so large that the numbers above would fill the memory."""

    block: int
    group: int
    shard: int
    """A multiple of `group`."""


@dataclass(frozen=True)
class Part:
    """One configuration of a data set."""

    name: str
    features: Features
    """One of them is `split`, a string that says where a row belongs."""
    splits: tuple[str, ...]
    rows: int
    make: Callable[[int, int], Iterator[dict]]
    """Rows start <= i < stop as Arrow takes them, or some fewer. Pure, and importable by name: other processes call
    it."""
    cut: Cut | None = None
    """None takes the numbers above."""
    apart: str = ""
    """A column of strings whose values splits must not share."""

    @property
    def sizes(self) -> Cut:
        return self.cut or Cut(BLOCK_ROWS, GROUP_ROWS, SHARD_ROWS)

    def blocks(self) -> list[tuple[int, int]]:
        """Where blocks start and stop."""
        step = self.sizes.block
        return [(start, min(start + step, self.rows)) for start in range(0, self.rows, step)]


@dataclass(frozen=True)
class Size:
    """How much a split holds."""

    rows: int
    bytes: int
    """Of its Arrow data, uncompressed."""


Sizes = dict[str, dict[str, Size]]
"""By part and split; splits without a row are left out, for `load_dataset` cannot open them."""


def make_block(part: Part, start: int, stop: int) -> bytes:
    """One block as an Arrow file."""
    schema = part.features.arrow_schema
    rows = list(part.make(start, stop))
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, schema) as writer:
        writer.write_table(pa.Table.from_pylist(rows, schema=schema))
    return sink.getvalue().to_pybytes()


# --- engines ------------------------------------------------------------------------------------------------

Job = tuple[Part, int, int]


def _start_worker() -> None:
    """Runs first in each worker: one thread, no answer to ctrl-C, and no life after the builder's."""
    import torch

    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


def _local(jobs: list[Job], workers: int) -> Iterator[tuple[Job, bytes]]:
    """Blocks as they are finished, by processes of this machine."""
    workers = min(workers or len(os.sched_getaffinity(0)), len(jobs))
    if workers <= 1:
        yield from ((job, make_block(*job)) for job in jobs)
        return
    spawn = multiprocessing.get_context("spawn")
    waiting, running = iter(jobs), {}
    pool = ProcessPoolExecutor(workers, spawn, _start_worker)
    try:
        # a finished block waits in memory until it is written, so only a few are asked for ahead
        for job in islice(waiting, 2 * workers):
            running[pool.submit(make_block, *job)] = job
        while running:
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                yield running.pop(future), future.result()
                for job in islice(waiting, 1):
                    running[pool.submit(make_block, *job)] = job
    except BrokenProcessPool:
        raise BuildError(
            "a worker was killed, perhaps for want of memory; run the same command again to go on, "
            "with fewer --workers if it happens again"
        ) from None
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _ray(jobs: list[Job], workers: int) -> Iterator[tuple[Job, bytes]]:
    """Blocks as they are finished, by the cluster at RAY_ADDRESS, else by one started on this machine.

    Blocks travel through Ray, so the machines of the cluster need no common disk.
    """
    try:
        import ray
        import ray.exceptions
    except ModuleNotFoundError:
        raise BuildError("--engine ray needs Ray: pip install 'hubmodels[ray]', or use --engine local") from None
    if not jobs:
        return
    ours = not ray.is_initialized()
    if ours:
        known = "RAY_ADDRESS" in os.environ
        ray.init(num_cpus=None if known else workers or None, include_dashboard=False, log_to_driver=False)
    try:
        remote = ray.remote(num_cpus=1)(make_block)
        ahead = 2 * (workers or int(ray.cluster_resources().get("CPU", 1)))
        waiting, running = iter(jobs), {}
        for job in islice(waiting, ahead):
            running[remote.remote(*job)] = job
        while running:
            (done, *_), _ = ray.wait(list(running))
            try:
                block = ray.get(done)
            except ray.exceptions.RayTaskError as error:
                if isinstance(error.cause, BuildError):
                    raise error.cause from None  # without the worker's traceback, as other engines do
                raise
            yield running.pop(done), block
            for job in islice(waiting, 1):
                running[remote.remote(*job)] = job
    finally:
        if ours:
            ray.shutdown()


# --- building -----------------------------------------------------------------------------------------------


def built(out: Path, settings: dict) -> bool:
    """Whether `out` is a finished folder of these settings."""
    return _settings(out) == settings


def build(
    out: Path,
    parts: list[Part],
    settings: dict,
    card: Callable[[Sizes], str],
    extras: Callable[[], dict[str, bytes]],
    engine: Engine = "local",
    workers: int = 0,
) -> None:
    """Build `out`, or go on with a build of the same settings that was stopped.

    Args:
        settings: all that decides the bytes, JSON-native; written to build.json.
        card: text of README.md.
        extras: further files, by name; asked for when all else is there.
        workers: 0 takes one for each processor.

    Raises:
        BuildError: `out` exists, another process builds it, or OUT.partial holds something else.
        OSError: the disk is full or cannot be written. What is finished is kept for the next try.
    """
    if out.exists() or out.is_symlink():
        state = "is finished already" if built(out, settings) else "exists already"
        raise BuildError(f"{out} {state}; remove it or choose another --out (nothing was changed)")
    partial = out.with_name(out.name + ".partial")
    with _own(partial, settings):
        if not (partial / "README.md").exists():  # written last
            _make_blocks(partial / "blocks", parts, engine, workers)
            sizes = {part.name: _assemble(partial, part) for part in parts}
            for name, data in {**extras(), "README.md": card(sizes).encode()}.items():
                _write(partial / name, data)
        shutil.rmtree(partial / "blocks", ignore_errors=True)
        partial.rename(out)


def _settings(folder: Path) -> dict | None:
    try:
        return json.loads((folder / "build.json").read_text())
    except (OSError, ValueError):
        return None


@contextmanager
def _own(partial: Path, settings: dict) -> Iterator[None]:
    """Make sure that the folder of unfinished work is ours alone."""
    partial.mkdir(parents=True, exist_ok=True)
    handle = os.open(partial, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BuildError(f"another process is building {partial}; wait for it or choose another --out") from None
        if all(file.suffix == ".tmp" for file in partial.iterdir()):
            _write(partial / "build.json", (json.dumps(settings, indent=2) + "\n").encode())
        if _settings(partial) != settings:
            raise BuildError(
                f"{partial} is not an unfinished build with these settings (see build.json in it); "
                "remove it or choose another --out"
            )
        yield
    finally:
        os.close(handle)


def _write(path: Path, data: bytes) -> None:
    """Write a file that is there whole or not at all."""
    draft = path.with_name(path.name + ".tmp")
    try:
        draft.write_bytes(data)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def _block(folder: Path, part: Part, start: int, stop: int) -> Path:
    return folder / f"{part.name}-{start:09d}-{stop:09d}.arrow"


def _make_blocks(folder: Path, parts: list[Part], engine: Engine, workers: int) -> None:
    folder.mkdir(exist_ok=True)
    jobs = [(part, *block) for part in parts for block in part.blocks() if not _block(folder, part, *block).exists()]
    total, missing = sum(part.rows for part in parts), sum(stop - start for _, start, stop in jobs)
    make = _ray if engine == "ray" else _local
    with tqdm(total=total, initial=total - missing, unit="row", unit_scale=True) as bar:
        for (part, start, stop), data in make(jobs, workers):
            _write(_block(folder, part, start, stop), data)
            bar.update(stop - start)


def _assemble(folder: Path, part: Part) -> dict[str, Size]:
    """Cut the blocks of a part into shards, split by split."""
    (folder / part.name).mkdir(exist_ok=True)
    schema, cut, sizes = part.features.arrow_schema, part.sizes, {}
    owners: dict[str, str] = {}
    for split in part.splits:
        rows = 0
        for table in _of_split(folder, part, split):
            rows += len(table)
            for value in table[part.apart].to_pylist() if part.apart else []:
                if owners.setdefault(value, split) != split:
                    raise BuildError(f"{part.apart} {value!r} is both in {owners[value]} and in {split}: name it apart")
        if not rows:
            continue
        shards = -(-rows // cut.shard)
        groups, size = _groups(schema, _of_split(folder, part, split), cut.group), 0
        for shard in range(shards):
            path = folder / part.name / f"{split}-{shard:05d}-of-{shards:05d}.parquet"
            with pq.ParquetWriter(path, schema) as writer:
                for group in islice(groups, cut.shard // cut.group):
                    writer.write_table(group, cut.group)
                    size += group.nbytes
        sizes[split] = Size(rows, size)
    return sizes


def _of_split(folder: Path, part: Part, split: str) -> Iterator[pa.Table]:
    """The rows of one split, block by block."""
    for start, stop in part.blocks():
        with pa.memory_map(str(_block(folder / "blocks", part, start, stop))) as source:
            table = pa.ipc.open_file(source).read_all()
            yield table.filter(pc.equal(table["split"], split))  # pyright: ignore[reportAttributeAccessIssue]


def _groups(schema: pa.Schema, tables: Iterator[pa.Table], size: int) -> Iterator[pa.Table]:
    """The same rows in tables of `size`; the last one holds the rest."""
    rest = schema.empty_table()
    for table in tables:
        rest = pa.concat_tables([rest, table])
        while len(rest) >= size:
            yield rest.slice(0, size).combine_chunks()
            rest = rest.slice(size)
    if len(rest):
        yield rest.combine_chunks()


def metadata(parts: list[Part], sizes: Sizes, about: dict) -> str:
    """The YAML of README.md: `about`, and all that `load_dataset` needs. The first part is the default."""
    card = DatasetCardData(**about)
    infos = {}
    for part in parts:
        splits = SplitDict()
        for name, size in sizes[part.name].items():
            splits.add(SplitInfo(name, num_bytes=size.bytes, num_examples=size.rows))
        total = sum(size.bytes for size in sizes[part.name].values())
        infos[part.name] = DatasetInfo(features=part.features, splits=splits, dataset_size=total)
    DatasetInfosDict(infos).to_dataset_card_data(card)
    configs = {
        part.name: {
            "data_files": [{"split": s, "path": f"{part.name}/{s}-*"} for s in sizes[part.name]],
            **({"default": True} if part is parts[0] else {}),
        }
        for part in parts
    }
    MetadataConfigs(configs).to_dataset_card_data(card)
    return card.to_yaml()


# --- the command ------------------------------------------------------------------------------------------------


def command(out: Path, push_to: str, settings: Callable[[], dict], build: Callable[[], object]) -> None:
    """Build `out` unless it is finished already, publish it if asked to; one line to stderr and exit code 1 when that
    cannot be done.

    Args:
        push_to: org/name, or empty.
        settings: what `build` would build with.
    """
    try:
        if push_to:
            check_name(push_to)
        if push_to and out.exists() and built(out, settings()):
            print(f"{out} is finished already", file=sys.stderr)
        else:
            build()
        if push_to:
            print(push(out, push_to))
    except BuildError as error:
        sys.exit(str(error))
    except OSError as error:
        sys.exit(f"cannot write {out}: {_line(error)}; run the same command again to go on")
    except KeyboardInterrupt:
        sys.exit("stopped; run the same command again to go on")


# --- publishing ---------------------------------------------------------------------------------------------


def check_name(repo: str) -> None:
    """Refuse a name that the Hub would refuse, before any work is done.

    Raises:
        BuildError: the name is not of the form org/name.
    """
    try:
        validate_repo_id(repo)
    except HFValidationError as error:
        raise BuildError(f"--push-to {repo}: {_line(error)}") from None
    if repo.count("/") != 1:
        raise BuildError(f"--push-to wants org/name, got {repo}")


def push(folder: Path, repo: str) -> str:
    """Make a data set on the Hub hold exactly the files of a finished folder; nothing new makes no commit.

    Returns:
        The address of the data set.

    Raises:
        BuildError: the Hub cannot be reached or says no. The folder stays as it is.
    """
    api = HfApi()
    try:
        url = api.create_repo(repo, repo_type="dataset", exist_ok=True)
        api.upload_folder(
            repo_id=repo,
            repo_type="dataset",
            folder_path=folder,
            commit_message="Upload data set",
            delete_patterns="*",
        )
    except (OSError, HfHubHTTPError, httpx.HTTPError) as error:
        raise BuildError(f"could not publish to {repo}: {_reason(error)} ({folder} is kept)") from None
    return str(url)


def _reason(error: Exception) -> str:
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status == 401:
        return "the Hub does not accept the token; log in with `hf auth login` or set HF_TOKEN"
    if status == 403:
        return "the token may not write there; use one with write access to the organisation"
    if isinstance(error, (ConnectionError, httpx.TransportError)):
        return f"the Hub cannot be reached; check the network and try again: {_line(error)}"
    return _line(error)


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__

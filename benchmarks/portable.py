"""The kernels without the vectors of this processor, and for ARM.

python -m benchmarks.portable

Generic x86-64 is measured beside this processor, in processes that take turns: what it costs, and
whether results are the same to the last bit. For ARM the kernels are compiled and not run.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.suite.recordings import SHAPE, make_frames, make_stat, make_traces

GENERIC = {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""}
ARM = "aarch64-unknown-linux-gnu"


def seconds(toy: bool, repeats: int = 7) -> dict[str, tuple[float, str]]:
    """Processor time of each kernel, the least, and a hash of what it makes."""
    import hashlib

    import xs2p
    from xs2p.masks.layout import layout
    from xs2p.traces.oasis_cpu import oasis
    from xs2p.traces.sums_cpu import mask_sums

    n_rois, n_frames = (20, 40) if toy else (1000, 128)
    masks = layout(xs2p.build_masks(xs2p.rois_from_stat(make_stat(n_rois), SHAPE)).arrays())
    works = {}
    for dtype in ("int16", "float32"):
        frames = make_frames(n_frames, dtype=dtype)
        works[f"sums, {dtype}"] = lambda frames=frames: mask_sums(frames, masks)
    traces = make_traces(*((40, 200) if toy else (128, 10_000))) - np.float32(300)
    works["OASIS"] = lambda: oasis(traces, np.float32(30))
    found = {}
    for name, work in works.items():
        made, times = hashlib.blake2b(work().tobytes()).hexdigest(), []
        for _ in range(repeats):
            start = time.process_time()
            work()
            times.append(time.process_time() - start)
        found[name] = min(times), made
    return found


def for_arm() -> list[tuple[str, int, int]]:
    """Compile the sums of this process for ARM: instructions on vectors, and fused ones, of each.

    The process must have compiled them without optimisations, which are those of its own processor.
    """
    import llvmlite.binding as llvm

    from xs2p.masks.layout import layout
    from xs2p.masks.packing import MaskArrays
    from xs2p.traces import sums_cpu

    pixel, ends = np.zeros(1, np.int32), np.array([0, 1])
    masks = layout(MaskArrays(ends, pixel, np.ones(1, np.float32), ends, pixel, (8, 8)))
    for dtype in ("int16", "float32"):
        sums_cpu.mask_sums(np.ones((32, 8, 8), dtype), masks)
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    machine = llvm.Target.from_triple(ARM).create_target_machine(cpu="generic", opt=3)
    found = []
    kernel = sums_cpu._sums
    for signature in kernel.signatures:
        code = kernel.inspect_llvm(signature)
        lines = [line for line in code.splitlines() if not line.startswith("target ")]
        module = llvm.parse_assembly("\n".join(lines))
        module.triple, module.data_layout = ARM, str(machine.target_data)
        passes = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(3))
        passes.getModulePassManager().run(module, passes)
        module.verify()
        assembly = machine.emit_assembly(module)
        vectors = len(re.findall(r"^\t\w+\t.*v\d+\.\d+[bhsd]", assembly, re.M))
        fused = len(re.findall(r"^\t(?:fmla|fmls|fmadd|fmsub)\t", assembly, re.M))
        found.append((f"sums, {signature[0].dtype}", vectors, fused))
    return found


def in_new_process(what: str, cache: str, **environ: str) -> object:
    """Call one of the above in a new process, with a cache of its own for what it compiles."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "benchmarks.portable", "--child", what],
        cwd=Path(__file__).parent.parent,
        env={**os.environ, "NUMBA_CACHE_DIR": cache, **environ},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise SystemExit(f"{what} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def main(arguments: list[str] | None = None) -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3, help="processes of each, in turn")
    parser.add_argument("--toy", action="store_true", help="tiny sizes: only to see it run")
    parser.add_argument("--child", choices=["full", "toy", "arm"], help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.child:
        print(json.dumps(for_arm() if options.child == "arm" else seconds(options.child == "toy")))
        return
    size = "toy" if options.toy else "full"
    with tempfile.TemporaryDirectory() as folder:
        caches = [os.path.join(folder, name) for name in ("own", "generic", "arm")]
        runs = [
            (in_new_process(size, caches[0]), in_new_process(size, caches[1], **GENERIC))
            for _ in range(1 if options.toy else options.repeats)
        ]
        print("| kernel | this processor, ms | generic x86-64, ms | ratio | results |")
        print("|---|---|---|---|---|")
        for name in runs[0][0]:
            own, generic = (1e3 * np.median([run[i][name][0] for run in runs]) for i in (0, 1))
            same = len({run[i][name][1] for run in runs for i in (0, 1)}) == 1
            print(
                f"| {name} | {own:.1f} | {generic:.1f} | **{generic / own:.1f} ×** | "
                f"{'identical' if same else 'DIFFERENT'} |"
            )
        print("\n| kernel, for ARM | instructions on vectors | of them fused |\n|---|---|---|")
        for name, vectors, fused in in_new_process("arm", caches[2], NUMBA_OPT="0", **GENERIC):
            print(f"| {name} | {vectors} | {fused} |")


if __name__ == "__main__":
    main()

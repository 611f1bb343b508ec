#!/usr/bin/env python3
"""Writes src/seccomp/table.rs: the numbers of system calls, from the kernel's own headers.

usage: generate.py INCLUDE_X86 INCLUDE_ARM INCLUDE_ARM64 INCLUDE_RISCV64 > src/seccomp/table.rs

The arguments are include directories as Debian installs them: /usr/include/x86_64-linux-gnu of linux-libc-dev, and
/usr/TRIPLET/include of linux-libc-dev-{armhf,arm64,riscv64}-cross. `NEWER` is what younger kernels have; since
Linux 5.1 a new call has the same number everywhere. Needs gcc, only to read the headers.
"""

import re
import subprocess
import sys

ABIS = ["x86_64", "x86", "x32", "aarch64", "arm", "riscv64"]

# Since the headers of Linux 6.1 (scripts/syscall.tbl of the kernel).
NEWER = {
    451: "cachestat", 452: "fchmodat2", 453: "map_shadow_stack", 454: "futex_wake", 455: "futex_wait",
    456: "futex_requeue", 457: "statmount", 458: "listmount", 459: "lsm_get_self_attr", 460: "lsm_set_self_attr",
    461: "lsm_list_modules", 462: "mseal", 463: "setxattrat", 464: "getxattrat", 465: "listxattrat",
    466: "removexattrat", 467: "open_tree_attr", 468: "file_getattr", 469: "file_setattr", 470: "listns",
    471: "rseq_slice_yield",
}
# Those of one architecture alone, and those that came to an architecture later than to others.
ALSO = {
    "x86_64": {"uretprobe": 335, "uprobe": 336},
    "x32": {"uretprobe": 335, "uprobe": 336},
    "riscv64": {"riscv_hwprobe": 258, "memfd_secret": 447},
}

# Calls that profiles name, of architectures that are not here: not unknown, only absent.
ABSENT_HERE = """
    arm_fadvise64_64 arm_sync_file_range atomic_barrier atomic_cmpxchg_32 breakpoint cachectl cacheflush get_tls getpagesize multiplexer pciconfig_iobase
    pciconfig_read pciconfig_write rtas s390_guarded_storage s390_pci_mmio_read s390_pci_mmio_write
    s390_runtime_instr s390_sthyi set_tls spu_create spu_run subpage_prot swapcontext switch_endian sync_file_range2
    sys_debug_setcontext syscall sysmips timerfd usr26 usr32
    """.split()


def read(include, defines):
    command = ["gcc", "-E", "-dM", "-nostdinc", "-xc", "-", "-I", include, "-I", "/usr/include"]
    command += ["-U__x86_64__", "-U__i386__"] + ["-D" + name for name in defines]
    text = subprocess.run(command, input="#include <asm/unistd.h>\n", capture_output=True, text=True, check=True).stdout
    macros = dict(re.findall(r"^#define (\w+) (.+)$", text, re.M))

    def value(expression):
        expanded = re.sub(r"\b[A-Za-z_]\w*", lambda word: str(value(macros[word.group()])), expression)
        return eval(expanded, {})

    numbers = {}
    for name, expression in macros.items():
        prefix = next((prefix for prefix in ("__NR_", "__ARM_NR_") if name.startswith(prefix)), None)
        name = name.removeprefix(prefix or "")
        if prefix is None or name in ("SYSCALL_BASE", "SYSCALL_MASK", "BASE", "syscalls", "arch_specific_syscall", "cmpxchg"):
            continue
        numbers[name.removeprefix("3264_") if name.startswith("3264_") else name] = value(expression) & ~(1 << 30)
    return {name: number for name, number in numbers.items() if not name.startswith("OABI_")}


def main():
    x86, arm, arm64, riscv64 = sys.argv[1:]
    tables = {
        "x86_64": read(x86, ["__x86_64__"]),
        "x86": read(x86, ["__i386__"]),
        "x32": read(x86, ["__x86_64__", "__ILP32__"]),
        "aarch64": read(arm64, ["__aarch64__", "__LP64__"]),
        "arm": read(arm, ["__arm__", "__ARM_EABI__"]),
        "riscv64": read(riscv64, ["__riscv", "__riscv_xlen=64", "__LP64__"]),
    }
    for abi, numbers in tables.items():
        numbers.update({name: number for number, name in NEWER.items()})
        numbers.update(ALSO.get(abi, {}))
    names = sorted({name for numbers in tables.values() for name in numbers} | set(ABSENT_HERE))
    print("//! Numbers of system calls. Made by tests/syscalls/generate.py from the kernel's headers; not edited by hand.")
    print()
    print("/// A call that the architecture does not have.")
    print("pub(super) const NONE: i32 = -1;")
    print()
    print("/// Sorted by name; the numbers are those of %s (without its bit 30)." % ", ".join(ABIS))
    print("#[rustfmt::skip]")
    print("pub(super) static SYSCALLS: [(&str, [i32; %d]); %d] = [" % (len(ABIS), len(names)))
    for name in names:
        row = ", ".join(str(tables[abi].get(name, -1)) for abi in ABIS)
        print(f'    ("{name}", [{row}]),')
    print("];")


main()

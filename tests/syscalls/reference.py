#!/usr/bin/env python3
"""libseccomp as the tests' reference: profiles in, programs out, a line each.

First line out: {"version": [..], "numbers": {architecture: {name: number}}} for the names that came on the first line
in. Then for each line {"default": n, "architectures": [..], "rules": [[action, name, [[index, op, a, b], ..]], ..],
"tree": whether to search for the number by halving}
the program as hexadecimal, or the error as a negative number. A profile on which libseccomp takes longer than half
a second of processor time (it goes round in circles on some) is the end of this process, by SIGPROF.
"""

import ctypes
import json
import os
import signal
import sys


class Version(ctypes.Structure):
    _fields_ = [("major", ctypes.c_uint), ("minor", ctypes.c_uint), ("micro", ctypes.c_uint)]


class Compare(ctypes.Structure):
    _fields_ = [("arg", ctypes.c_uint), ("op", ctypes.c_int), ("a", ctypes.c_uint64), ("b", ctypes.c_uint64)]


lib = ctypes.CDLL("libseccomp.so.2")
lib.seccomp_init.restype = ctypes.c_void_p
lib.seccomp_version.restype = ctypes.POINTER(Version)
for call in (lib.seccomp_release, lib.seccomp_arch_remove, lib.seccomp_arch_add, lib.seccomp_export_bpf):
    call.argtypes = [ctypes.c_void_p] + ([] if call is lib.seccomp_release else [ctypes.c_uint32])
lib.seccomp_attr_set.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_uint32]
lib.seccomp_rule_add_array.argtypes = [
    ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int, ctypes.c_uint, ctypes.POINTER(Compare)]

TOKENS = {
    "SCMP_ARCH_X86_64": 0xC000003E, "SCMP_ARCH_X86": 0x40000003, "SCMP_ARCH_X32": 0x4000003E,
    "SCMP_ARCH_AARCH64": 0xC00000B7, "SCMP_ARCH_ARM": 0x40000028, "SCMP_ARCH_RISCV64": 0xC00000F3,
}
OPERATORS = {name: number for number, name in enumerate(
    ["SCMP_CMP_NE", "SCMP_CMP_LT", "SCMP_CMP_LE", "SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT", "SCMP_CMP_MASKED_EQ"], 1)}
OPTIMIZE, TREE = 8, 2  # SCMP_FLTATR_CTL_OPTIMIZE
scratch = os.memfd_create("program")


def build(profile):
    context = lib.seccomp_init(profile["default"])
    try:
        if profile.get("tree") and (done := lib.seccomp_attr_set(context, OPTIMIZE, TREE)):
            return done
        # The architecture that the library runs on is there already; another one may be asked to play native.
        wanted = profile["architectures"]
        for name in wanted:
            if name != "SCMP_ARCH_X86_64" and (done := lib.seccomp_arch_add(context, TOKENS[name])):
                return done
        if "SCMP_ARCH_X86_64" not in wanted and (done := lib.seccomp_arch_remove(context, TOKENS["SCMP_ARCH_X86_64"])):
            return done
        for action, name, conditions in profile["rules"]:
            number = lib.seccomp_syscall_resolve_name(name.encode())
            array = (Compare * len(conditions))(*[Compare(i, OPERATORS[op], a, b) for i, op, a, b in conditions])
            if done := lib.seccomp_rule_add_array(context, action, number, len(conditions), array):
                return done
        os.lseek(scratch, 0, os.SEEK_SET)
        os.ftruncate(scratch, 0)
        if done := lib.seccomp_export_bpf(context, scratch):
            return done
        return os.pread(scratch, os.fstat(scratch).st_size, 0).hex()
    finally:
        lib.seccomp_release(context)


version = lib.seccomp_version().contents
names = json.loads(sys.stdin.readline())
numbers = {arch: {name: lib.seccomp_syscall_resolve_name_arch(token, name.encode()) for name in names}
           for arch, token in TOKENS.items()}
print(json.dumps({"version": [version.major, version.minor, version.micro], "numbers": numbers}), flush=True)
for line in sys.stdin:
    signal.setitimer(signal.ITIMER_PROF, 0.5)
    print(build(json.loads(line)), flush=True)

"""Runs a program that may not make a certain system call, as in many a container: seccomp.py NAME ERRNO PROGRAM …"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
import sys
from collections.abc import Sequence

NUMBERS = {
    "x86_64": {"flock": 73, "madvise": 28, "pidfd_open": 434},
    "aarch64": {"flock": 32, "madvise": 233, "pidfd_open": 434},
}

PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS = 22, 38
MODE_FILTER = 2
LOAD_NUMBER, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06
"""BPF: BPF_LD | BPF_W | BPF_ABS, BPF_JMP | BPF_JEQ | BPF_K, BPF_RET | BPF_K."""
FAIL, ALLOW = 0x00050000, 0x7FFF0000

possible = sys.platform == "linux" and platform.machine() in NUMBERS


def without(call: str, error: int, argv: Sequence[str]) -> list[str]:
    """The command line that runs a program for which `call` fails so."""
    return [sys.executable, __file__, call, str(error), *argv]


def _forbid(call: str, error: int) -> None:
    number = NUMBERS[platform.machine()][call]
    instructions = [(LOAD_NUMBER, 0, 0, 0), (JUMP_IF_EQUAL, 0, 1, number), (RETURN, 0, 0, FAIL | error)]
    program = b"".join(struct.pack("HBBI", *line) for line in [*instructions, (RETURN, 0, 0, ALLOW)])
    room = ctypes.create_string_buffer(program, len(program))
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if libc.prctl(PR_SET_SECCOMP, MODE_FILTER, struct.pack("HP", len(program) // 8, ctypes.addressof(room))):
        sys.exit(f"no seccomp filter here: {os.strerror(ctypes.get_errno())}")


if __name__ == "__main__":
    _forbid(sys.argv[1], int(sys.argv[2]))
    os.execv(sys.argv[3], sys.argv[3:])

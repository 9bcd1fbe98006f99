"""Give up what reading bytes does not need: memory, time, files, network, other programs.

The limits are a must. The rest is done as far as the kernel can: an empty network namespace,
Landlock, and a seccomp filter. Each of the three forbids something that the others would too, so
that a kernel without one of them still has the others.
"""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import struct

MEMORY_BYTES = 1 << 30
"""Address space: Python, numpy and HDF5 take about 0.1 GiB, blocks of tiles as much."""
_ANSWER_BYTES = 64 << 10
_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000
_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 38, 22, 2
_LANDLOCK_CREATE, _LANDLOCK_RESTRICT = 444, 446
_LANDLOCK_ASK_VERSION, _LANDLOCK_ALL_FILES, _LANDLOCK_ALL_TCP = 1, (1 << 13) - 1, 3

_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
"""AUDIT_ARCH of include/uapi/linux/audit.h."""
_FORBIDDEN = {
    "x86_64": (
        *(41, 42, 43, 44, 46, 49, 50, 53),  # socket, connect, accept, send*, bind, listen, ...pair
        *(56, 57, 58, 59, 62, 101),  # clone, fork, vfork, execve, kill, ptrace
        *(2, 82, 83, 84, 85, 86, 87, 88, 90, 92),  # open, rename .. symlink, chmod, chown
        *(258, 263, 264, 265, 266, 268, 316),  # the same beneath a folder
        *(
            165,
            166,
            250,
            257,
            272,
            310,
            311,
            321,
        ),  # mount, umount, keyctl, openat, unshare, vm, bpf
        *(322, 425, 434, 435, 437),  # execveat, io_uring_setup, pidfd_open, clone3, openat2
    ),
    "aarch64": (
        *(198, 199, 200, 201, 202, 203, 206, 211),  # socket .. sendmsg
        *(220, 221, 129, 117),  # clone, execve, kill, ptrace
        *(33, 34, 35, 36, 37, 38, 53, 54, 56),  # mknodat .. renameat, fchmodat, fchownat, openat
        *(39, 40, 97, 219, 270, 271, 280, 281),  # umount, mount, unshare, keyctl, vm, bpf, execveat
        *(425, 434, 435, 437),  # io_uring_setup, pidfd_open, clone3, openat2
    ),
}
"""System calls that answer "not permitted", by number of the machine's own table."""
_EPERM, _RETURN_ERRNO, _RETURN_ALLOW, _RETURN_KILL = 1, 0x00050000, 0x7FFF0000, 0x80000000
_LOAD, _JUMP_EQUAL, _JUMP_ABOVE, _RETURN = 0x20, 0x15, 0x35, 0x06
_X32 = 0x40000000


def confine(cpu_seconds: int) -> None:
    """Lock this process in; nothing can be taken back."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNET) != 0:
        libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET)
    for limit, value in (
        (resource.RLIMIT_AS, MEMORY_BYTES),
        (resource.RLIMIT_CPU, cpu_seconds),
        (resource.RLIMIT_FSIZE, _ANSWER_BYTES),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NPROC, 0),
    ):
        resource.setrlimit(limit, (value, value))
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    _forbid_paths_and_ports(libc)
    _forbid_calls(libc)


def _forbid_paths_and_ports(libc: ctypes.CDLL) -> None:
    """Landlock with no rule at all: no path (Linux 5.13), no TCP port (6.7) can be opened."""
    version = libc.syscall(_LANDLOCK_CREATE, None, 0, _LANDLOCK_ASK_VERSION)
    rights = [_LANDLOCK_ALL_FILES] + ([_LANDLOCK_ALL_TCP] if version >= 4 else [])
    handled = (ctypes.c_uint64 * len(rights))(*rights)
    ruleset = libc.syscall(_LANDLOCK_CREATE, handled, ctypes.sizeof(handled), 0)
    if ruleset >= 0:
        libc.syscall(_LANDLOCK_RESTRICT, ruleset, 0)
        os.close(ruleset)


def _forbid_calls(libc: ctypes.CDLL) -> None:
    """A seccomp filter (Linux 3.5): what reaches outside answers with EPERM."""
    machine = platform.machine()
    if machine not in _ARCHITECTURES or struct.calcsize("P") != 8:
        return
    program = _filter(_ARCHITECTURES[machine], _FORBIDDEN[machine])
    code = ctypes.create_string_buffer(program, len(program))
    length = len(program) // 8
    header = struct.pack("HxxxxxxP", length, ctypes.addressof(code))  # struct sock_fprog
    libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, header, 0, 0)


def _filter(architecture: int, forbidden: tuple[int, ...]) -> bytes:
    """Classic BPF over struct seccomp_data: its first word is the call, its second the ABI.

    A call by another ABI has other numbers, so it ends the process.
    """
    last = len(forbidden)
    steps = [
        (_LOAD, 0, 0, 4),
        (_JUMP_EQUAL, 1, 0, architecture),
        (_RETURN, 0, 0, _RETURN_KILL),
        (_LOAD, 0, 0, 0),
        (_JUMP_ABOVE, last + 1, 0, _X32),
        *((_JUMP_EQUAL, last - i, 0, number) for i, number in enumerate(forbidden)),
        (_RETURN, 0, 0, _RETURN_ALLOW),
        (_RETURN, 0, 0, _RETURN_ERRNO | _EPERM),
    ]
    return b"".join(struct.pack("HBBI", *step) for step in steps)

"""What a worker gives up before it reads its first hostile octet. Linux.

- it dies with its parent, gains no privileges, writes no core;
- no file can grow (RLIMIT_FSIZE 0), few can be open, no process or thread can be started;
- a network namespace of its own with nothing in it, where the kernel lets it have one;
- a seccomp filter: no sockets, no programs, no other process touched, nothing in the file system changed, files opened
  for reading only. The calls get EPERM, so that a library that merely tries goes on.

Each of the last two is taken where it can be had; `confine` tells which.
"""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import signal
import struct
import time
from typing import Final

_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 1, 38
_CLONE_NEWUSER, _CLONE_NEWNET, _CLONE_THREAD = 0x10000000, 0x40000000, 0x00010000

# System calls that a worker has no use for: name, number on x86_64, number on aarch64 (-1: it has none).
_DENIED: Final = (
    ("socket", 41, 198), ("connect", 42, 203), ("accept", 43, 202), ("accept4", 288, 242), ("bind", 49, 200),
    ("listen", 50, 201), ("socketpair", 53, 199), ("execve", 59, 221), ("execveat", 322, 281), ("fork", 57, -1),
    ("vfork", 58, -1), ("kill", 62, 129), ("tkill", 200, 130), ("pidfd_send_signal", 424, 424),
    ("pidfd_open", 434, 434), ("pidfd_getfd", 438, 438), ("ptrace", 101, 117), ("process_vm_readv", 310, 270),
    ("process_vm_writev", 311, 271),
    ("unshare", 272, 97), ("setns", 308, 268), ("mount", 165, 40), ("umount2", 166, 39), ("pivot_root", 155, 41),
    ("chroot", 161, 51), ("open_by_handle_at", 304, 265), ("init_module", 175, 105), ("finit_module", 313, 273),
    ("delete_module", 176, 106), ("kexec_load", 246, 104), ("bpf", 321, 280), ("perf_event_open", 298, 241),
    ("userfaultfd", 323, 282), ("add_key", 248, 217), ("request_key", 249, 218), ("keyctl", 250, 219),
    ("io_uring_setup", 425, 425), ("io_uring_enter", 426, 426), ("io_uring_register", 427, 427), ("creat", 85, -1),
    ("unlink", 87, -1), ("unlinkat", 263, 35), ("rename", 82, -1), ("renameat", 264, 38), ("renameat2", 316, 276),
    ("mkdir", 83, -1), ("mkdirat", 258, 34), ("rmdir", 84, -1), ("link", 86, -1), ("linkat", 265, 37),
    ("symlink", 88, -1), ("symlinkat", 266, 36), ("mknod", 133, -1), ("mknodat", 259, 33), ("chmod", 90, -1),
    ("fchmod", 91, 52), ("fchmodat", 268, 53), ("fchmodat2", 452, 452), ("chown", 92, -1), ("fchown", 93, 55),
    ("lchown", 94, -1), ("fchownat", 260, 54), ("truncate", 76, 45), ("ftruncate", 77, 46), ("setuid", 105, 146),
    ("setgid", 106, 144), ("setreuid", 113, 145), ("setregid", 114, 143), ("setresuid", 117, 147),
    ("setresgid", 119, 149), ("setxattr", 188, 5), ("lsetxattr", 189, 6), ("fsetxattr", 190, 7),
)  # fmt: skip
# glibc goes back to the older call, whose arguments a filter can see.
_ABSENT: Final = (("clone3", 435, 435), ("openat2", 437, 437))
_OPEN: Final = {"x86_64": ((2, 1), (257, 2)), "aarch64": ((56, 2),)}  # number, argument that holds the flags
_CLONE: Final = {"x86_64": 56, "aarch64": 220}
_SECCOMP: Final = {"x86_64": 317, "aarch64": 277}
_AUDIT_ARCH: Final = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

_LOAD, _EQUAL, _ABOVE, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _ERRNO, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
_EPERM, _ENOSYS = 1, 38
_NUMBER, _ARCH, _ARGUMENTS = 0, 4, 16  # offsets in struct seccomp_data


def _step(code: int, value: int, then: int = 0, otherwise: int = 0) -> bytes:
    return struct.pack("=HBBI", code, then, otherwise, value)


def _filter(machine: str) -> bytes:
    """The filter program (linux/seccomp.h, linux/filter.h). Each block falls through to the next."""
    column = 1 if machine == "x86_64" else 2
    program = [
        _step(_LOAD, _ARCH), _step(_EQUAL, _AUDIT_ARCH[machine], 1), _step(_RETURN, _KILL), _step(_LOAD, _NUMBER),
    ]  # fmt: skip
    if machine == "x86_64":  # the x32 calls are the same ones under other numbers
        program += [_step(_ABOVE, 0x40000000, 0, 1), _step(_RETURN, _ERRNO | _ENOSYS)]
    for calls, error in ((_DENIED, _EPERM), (_ABSENT, _ENOSYS)):
        for call in calls:
            if int(call[column]) >= 0:
                program += [_step(_EQUAL, int(call[column]), 0, 1), _step(_RETURN, _ERRNO | error)]
    for number, argument in _OPEN[machine]:
        program += [
            _step(_EQUAL, number, 0, 4), _step(_LOAD, _ARGUMENTS + 8 * argument), _step(_ANY_BIT, _WRITING, 0, 1),
            _step(_RETURN, _ERRNO | _EPERM), _step(_RETURN, _ALLOW),
        ]  # fmt: skip
    program += [
        _step(_EQUAL, _CLONE[machine], 0, 4), _step(_LOAD, _ARGUMENTS), _step(_ANY_BIT, _CLONE_THREAD, 1, 0),
        _step(_RETURN, _ERRNO | _EPERM), _step(_RETURN, _ALLOW), _step(_RETURN, _ALLOW),
    ]  # fmt: skip
    return b"".join(program)


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("steps", ctypes.c_char_p))


def leave_parent(parent: int) -> bool:
    """Die when the parent does; False when it is gone already. The first thing a worker does."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    return os.getppid() == parent


def leave_network() -> bool:
    """An empty network namespace; to be had by root, and by others where user namespaces are open. One thread only."""
    libc = ctypes.CDLL(None, use_errno=True)
    return any(libc.unshare(flags) == 0 for flags in (_CLONE_NEWNET, _CLONE_NEWUSER | _CLONE_NEWNET))


def filter_calls() -> bool:
    """Install the seccomp filter for all threads; False where the machine or the kernel has none."""
    machine = platform.machine()
    if machine not in _SECCOMP:
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    steps = _filter(machine)
    program = _Program(len(steps) // 8, steps)
    set_filter, all_threads = 1, 1
    return bool(libc.syscall(_SECCOMP[machine], set_filter, all_threads, ctypes.byref(program)) == 0)


def address_space() -> int:
    """Octets of address space in use now."""
    with open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[0]) * resource.getpagesize()


def resident() -> int:
    """Octets of memory in use now."""
    with open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def limit(memory: int) -> None:
    """Set the limits that stay; `memory` is what may be added to the address space there is now."""
    for which, value in (
        (resource.RLIMIT_CORE, 0), (resource.RLIMIT_FSIZE, 0), (resource.RLIMIT_NOFILE, 64), (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_AS, address_space() + memory),
    ):  # fmt: skip
        _, hard = resource.getrlimit(which)
        if hard != resource.RLIM_INFINITY:
            value = min(value, hard)
        resource.setrlimit(which, (value, value))


def limit_cpu(seconds: int) -> None:
    """Let this process use `seconds` from now on; then SIGXCPU ends it."""
    soft = int(time.process_time()) + 1 + seconds
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (soft if hard == resource.RLIM_INFINITY else min(soft, hard), hard))

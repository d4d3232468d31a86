"""Runs a program to which the kernel refuses file locks, as a file system without them does (Linux).

``python no_locks.py PROGRAM [ARGUMENT...]``: a seccomp filter has the system call ``flock`` fail with "No locks
available", in the program and in all that it starts. It needs no privileges.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
import sys
from typing import Final

FLOCK: Final = {"x86_64": (0xC000003E, 73), "aarch64": (0xC00000B7, 32)}
"""By machine: the kernel's name for it, and the system call's number."""

_NO_NEW_PRIVS, _SET_SECCOMP, _MODE_FILTER = 38, 22, 2
_ALLOW, _FAIL = 0x7FFF0000, 0x00050000
_LOAD, _EQUAL, _RETURN = 0x20, 0x15, 0x06


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def possible() -> bool:
    """Returns whether this machine's kernel can be asked to."""
    return sys.platform == "linux" and platform.machine() in FLOCK


def refuse_locks() -> None:
    """From now on this process has no file locks.

    Raises:
        OSError: The kernel does not do this.
    """
    machine, number = FLOCK[platform.machine()]
    steps = (
        (_LOAD, 0, 0, 4),  # which machine the call is for
        (_EQUAL, 0, 3, machine),
        (_LOAD, 0, 0, 0),  # the call's number
        (_EQUAL, 0, 1, number),
        (_RETURN, 0, 0, _FAIL | errno.ENOLCK),
        (_RETURN, 0, 0, _ALLOW),
    )
    code = b"".join(struct.pack("HBBI", *step) for step in steps)
    libc = ctypes.CDLL(None, use_errno=True)
    program = _Program(len(steps), code)
    for arguments in ((_NO_NEW_PRIVS, 1, 0, 0, 0), (_SET_SECCOMP, _MODE_FILTER, ctypes.byref(program), 0, 0)):
        if libc.prctl(*arguments) != 0:
            number_of_error = ctypes.get_errno()
            raise OSError(number_of_error, os.strerror(number_of_error))


if __name__ == "__main__":
    refuse_locks()
    os.execv(sys.argv[1], sys.argv[1:])

"""What a program that was handed in cannot do, put up in its own process before anything of it runs.

Walls are held by the system, and a hook is called by Python:

* limits of memory, of the size of a file and of time, where there is `resource`;
* on Linux, namespaces of its own: no network, and a file system with nothing in it but Python, the system's libraries
  and a folder in memory to write into; everything else, other people's files among it, is not there;
* on Linux with x86-64 or arm64, a filter of system calls: no other processes, no sockets, no signals to others, no
  memory that the limits do not count;
* a hook (`sys.addaudithook`, and a finder of modules), everywhere: it refuses the same, and tells what was tried. It
  is a fence and no wall: who calls the C library through `ctypes` climbs over it, and where there are only hook and
  limits, into everything that the user may do.

Needs nothing but the standard library. What cannot be put up is returned in words.
"""

import ctypes
import math
import os
import platform
import signal
import struct
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

WORK = "/submission"
"""Where a program works, behind walls."""

_SYSTEM = ("/usr", "/lib", "/lib32", "/lib64", "/libx32", "/bin", "/nix/store", "/etc/ld.so.cache", "/etc/localtime")
_DEVICES = ("/dev/null", "/dev/zero", "/dev/random", "/dev/urandom")
_MOST_FILES = 4096

_NEW_NS, _NEW_UTS, _NEW_IPC, _NEW_USER, _NEW_NET = 0x20000, 0x4000000, 0x8000000, 0x10000000, 0x40000000
_BIND, _REC, _PRIVATE, _NOSUID, _NODEV = 4096, 16384, 1 << 18, 2, 4
_DETACH = 2
_RECURSIVE, _MOUNT_SETATTR, _ATTR_RDONLY = 0x8000, 442, 1
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
_LAST_CAPABILITY = 63
_PR_SET_PDEATHSIG, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP = 1, 24, 38, 22


@dataclass(frozen=True)
class Fence:
    """How far a program may go.

    Attributes:
        memory: What it may take of memory, in bytes.
        disk: What it may write, in bytes.
        hidden: Folders and files that it is not to see, by real paths, even where they lie within Python's folders.
        forbidden: Modules that it may not import.
        walls: Whether the system's walls are tried; without them there are limits and the hook.
    """

    memory: int
    disk: int
    hidden: tuple[str, ...] = ()
    forbidden: tuple[str, ...] = ()
    walls: bool = True


def limit(memory: int, disk: int, seconds: float = math.inf) -> str:
    """Limit what this process may take; it and its children cannot take it back."""
    try:
        import resource
    except ImportError:
        return "this system has no limits of memory"
    limits = [(resource.RLIMIT_DATA, memory), (resource.RLIMIT_FSIZE, disk), (resource.RLIMIT_CORE, 0)]
    if seconds < math.inf:
        threads = os.cpu_count() or 1
        limits.append((resource.RLIMIT_CPU, math.ceil(seconds * threads) + 1))  # should nobody be left to stop it
    for kind, most in limits:
        hard = resource.getrlimit(kind)[1]
        with suppress(ValueError, OSError):
            low = most if hard == resource.RLIM_INFINITY else min(most, hard)
            resource.setrlimit(kind, (low, low))
    return ""


def put_up(fence: Fence, folder: Path, seconds: float, tell: Callable[[str], None]) -> tuple[str, ...]:
    """Put everything up around this process, which works in `folder` afterwards, or in `WORK` behind walls.

    Args:
        fence: How far it may go.
        folder: An empty folder.
        seconds: How long it may compute.
        tell: Called with what is tried and refused.

    Returns:
        What this system does not allow, in words.
    """
    lacking = [limit(fence.memory, fence.disk, seconds)]
    covered = [*fence.hidden, *_places(fence.forbidden)]
    if sys.platform == "linux":  # when who waits for it is gone, it goes too
        _libc().prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    sys.path[:] = _python()
    os.chdir(folder)
    if fence.walls:
        lacking += [
            _tried(lambda: _enclose(fence.disk, covered, folder), "files and network cannot be closed off"),
            _tried(_filter, "processes cannot be forbidden"),
        ]
    else:
        lacking.append("there are no walls, only limits and a hook")
    os.environ["HOME"] = os.environ["TMPDIR"] = os.getcwd()
    hook = Hook(fence, os.getcwd(), tell)
    sys.meta_path.insert(0, hook)
    sys.addaudithook(hook)
    return tuple(filter(None, lacking))


def _tried(wall: Callable[[], None], otherwise: str) -> str:
    try:
        wall()
    except (OSError, AttributeError, KeyError) as error:
        return f"{otherwise} ({error})"
    return ""


def _python() -> list[str]:
    """The entries of the path that belong to the installation; what else is on it is the user's."""
    prefixes = {os.path.realpath(prefix) for prefix in (sys.prefix, sys.base_prefix)}
    return [entry for entry in sys.path if entry and _within(os.path.realpath(entry), prefixes)]


def _places(modules: Iterable[str]) -> list[str]:
    """Where modules that may not be imported are."""
    places: list[str] = []
    for name in modules:
        with suppress(ImportError, ValueError):
            found = find_spec(name)
            places += (found.submodule_search_locations or [found.origin or ""]) if found else []
    return [os.path.realpath(place) for place in places if os.path.isabs(place)]


def _within(path: str, folders: Iterable[str]) -> bool:
    return any(path == folder or path.startswith(folder.rstrip("/") + "/") for folder in folders)


# the system's walls


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _called(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def _mount(source: str, target: str, kind: str | None, flags: int, data: str = "") -> None:
    words = [None if word is None else os.fsencode(word) for word in (source, target, kind)]
    _called(_libc().mount(*words, ctypes.c_ulong(flags), data.encode()))


def _enclose(disk: int, covered: Iterable[str], folder: Path) -> None:
    """A file system of its own, without network, and no rights to change either."""
    if sys.platform != "linux":
        raise OSError(f"{sys.platform} has no namespaces")
    pivot_root, root = _PIVOT_ROOT[platform.machine()], f"{folder}/root"
    user, group = os.getuid(), os.getgid()
    libc = _libc()
    _called(libc.unshare(_NEW_USER | _NEW_NS | _NEW_NET | _NEW_IPC | _NEW_UTS))
    for name, said in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
        Path(f"/proc/self/{name}").write_text(said)
    _mount("none", "/", None, _REC | _PRIVATE)
    os.mkdir(root)
    _mount("tmpfs", root, "tmpfs", _NOSUID | _NODEV, "size=1m,mode=755")
    for path in _shown():
        target = root + path
        os.makedirs(os.path.dirname(target), exist_ok=True)
        if os.path.islink(path) and path in _SYSTEM:
            os.symlink(os.readlink(path), target)
            continue
        os.makedirs(target, exist_ok=True) if os.path.isdir(path) else Path(target).touch()
        _mount(path, target, None, _BIND | _REC)
    os.mkdir(root + WORK)
    for path in covered:
        if os.path.isdir(root + path):
            _mount("tmpfs", root + path, "tmpfs", _NOSUID | _NODEV, "size=4k,mode=755")
        elif os.path.exists(root + path):
            _mount("/dev/null", root + path, None, _BIND)
    attributes = struct.pack("QQQQ", _ATTR_RDONLY, 0, 0, 0)
    _called(libc.syscall(_MOUNT_SETATTR, -100, os.fsencode(root), _RECURSIVE, attributes, len(attributes)))
    _mount("tmpfs", root + WORK, "tmpfs", _NOSUID | _NODEV, f"size={disk},nr_inodes={_MOST_FILES},mode=700")
    os.chdir(root)
    _called(libc.syscall(pivot_root, b".", b"."))
    _called(libc.umount2(b".", _DETACH))
    os.chdir(WORK)
    for capability in range(_LAST_CAPABILITY + 1):  # with them it could mount, and look beneath
        libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)
    _called(libc.capset(struct.pack("Ii", 0x20080522, 0), bytes(24)))


def _shown() -> list[str]:
    """What is there behind the walls, each thing once, what lies within another one left out."""
    own = [sys.prefix, sys.base_prefix, sys.exec_prefix]
    own += filter(os.path.isabs, os.environ.get("LD_LIBRARY_PATH", "").split(":"))
    own += map(os.path.realpath, own.copy())
    paths = dict.fromkeys(p.rstrip("/") for p in [*own, *_SYSTEM, *_DEVICES] if os.path.exists(p))
    outer = [p for p in paths if p and not _within(p, [q for q in paths if q != p])]
    return sorted(outer, key=len)


_MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
"""By machine, the column of its numbers below, and its own number."""
_FORBIDDEN: dict[str, tuple[int | None, int | None]] = {
    "fork": (57, None),
    "vfork": (58, None),
    "execve": (59, 221),
    "execveat": (322, 281),
    "tkill": (200, 130),
    "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240),
    "pidfd_send_signal": (424, 424),
    "pidfd_open": (434, 434),
    "pidfd_getfd": (438, 438),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "process_madvise": (440, 440),
    "socket": (41, 198),
    "io_uring_setup": (425, 425),  # which could do the rest by itself
    "shmget": (29, 194),
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "unshare": (272, 97),
    "setns": (308, 268),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
}
_CLONE, _CLONE3, _KILLS, _MMAP = (56, 220), 435, ((62, 129), (234, 131)), (9, 222)
_X32 = 0x40000000


def _filter() -> None:
    """No other processes, sockets or signals: a system call that is not allowed fails."""
    if sys.platform != "linux":
        raise OSError(f"{sys.platform} has no filter of system calls")
    column, architecture = _MACHINES[platform.machine()]
    deny = 0x00050000 | 1  # EPERM
    program: list[tuple[int, int, int, int]] = []

    def load(offset: int) -> None:
        program.append((0x20, 0, 0, offset))

    def unless(jump: int, value: int, result: int) -> None:
        """Where the comparison holds, that is the result; otherwise it goes on."""
        program.extend([(jump, 0, 1, value), (0x06, 0, 0, result)])

    equal, at_least = 0x15, 0x35
    allow, missing = 0x7FFF0000, 0x00050000 | 38  # without clone3, the C library takes clone
    load(4)
    program.extend([(equal, 1, 0, architecture), (0x06, 0, 0, deny)])
    load(0)
    if column == 0:
        unless(at_least, _X32, deny)
    unless(equal, _CLONE3, missing)
    for number in filter(None, (numbers[column] for numbers in _FORBIDDEN.values())):
        unless(equal, number, deny)
    # each of these looks at one argument: a thread is no process, a signal to itself is none to others, and what is
    # shared and anonymous is counted by no limit
    checks = [
        (_CLONE[column], 16, [(0x45, 0, 1, 0x10000), (0x06, 0, 0, allow), (0x06, 0, 0, deny)]),
        *((kill[column], 16, [(equal, 0, 1, os.getpid()), (0x06, 0, 0, allow), (0x06, 0, 0, deny)]) for kill in _KILLS),
        (_MMAP[column], 40, [(0x54, 0, 0, 0x21), (equal, 0, 1, 0x21), (0x06, 0, 0, deny), (0x06, 0, 0, allow)]),
    ]
    for number, argument, judged in checks:
        program.extend([(equal, 0, len(judged) + 1, number), (0x20, 0, 0, argument), *judged])
    program.append((0x06, 0, 0, allow))
    packed = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in program))
    whole = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(program), ctypes.addressof(packed)))
    libc = _libc()
    _called(libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    _called(libc.prctl(_PR_SET_SECCOMP, 2, ctypes.c_void_p(ctypes.addressof(whole)), 0, 0))


# the hook

_READS = ("os.listdir", "os.scandir")
_WRITES = dict.fromkeys(("os.rename", "os.link", "os.symlink"), 2) | dict.fromkeys(
    ("os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.chmod", "os.chown", "os.utime", "os.setxattr"), 1
)
"""With the number of paths."""
_PROCESSES = ("os.fork", "os.forkpty", "os.exec", "os.posix_spawn", "os.spawn", "os.system", "subprocess.Popen", "pty.")
_SIGNALS = ("os.kill", "os.killpg")
_NETWORK = ("socket.connect", "socket.bind", "socket.send", "socket.getaddrinfo", "socket.gethostby", "socket.getname")
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_SYSTEMS_OWN = (
    "/usr",
    "/lib",
    "/lib64",
    "/bin",
    "/etc",
    "/sys",
    "/dev/null",
    "/dev/zero",
    "/dev/random",
    "/dev/urandom",
)
_OF_PROC = ("cpuinfo", "meminfo", "stat", "version", "mounts", "filesystems", "sys")


class Hook:
    """Refuses what a program may not do, and tells of it.

    Reading is allowed in its own folder, in Python's installation and in the system's; writing in its own folder.
    """

    def __init__(self, fence: Fence, own: str, tell: Callable[[str], None]) -> None:
        self._forbidden, self._tell = frozenset(fence.forbidden), tell
        self._own = os.path.realpath(own)
        self._hidden = tuple(fence.hidden)
        installed = [*sys.path, sys.prefix, sys.base_prefix]
        self._readable = {*installed, *map(os.path.realpath, installed), *_SYSTEMS_OWN, f"/proc/{os.getpid()}"}
        self._readable |= {f"/proc/{name}" for name in _OF_PROC}

    def __call__(self, event: str, args: tuple[object, ...]) -> None:
        """One event of Python's."""
        if event == "open":
            path, _, flags = args
            self._look_at(path, isinstance(flags, int) and bool(flags & _WRITING))
        elif event in _READS:
            self._look_at(args[0] if args and args[0] is not None else ".", False)
        elif event in _WRITES:
            for path in args[: _WRITES[event]]:
                self._look_at(path, True)
        elif event.startswith(_PROCESSES):
            self._refuse("start another process")
        elif event.startswith(_SIGNALS):
            self._refuse("send a signal to a process")
        elif event.startswith(_NETWORK):
            self._refuse("use the network")

    def find_spec(self, name: str, *_: object) -> None:
        """A module that is about to be looked for; others find it."""
        if name.partition(".")[0] in self._forbidden:
            self._refuse(f"import {name.partition('.')[0]!r}", ImportError)

    def _look_at(self, path: object, writes: bool) -> None:
        if not isinstance(path, str | bytes | os.PathLike):
            return  # a number: it is open already
        name = os.fsdecode(path)
        try:
            real = os.path.realpath(name)
        except (ValueError, OSError):
            return  # no path at all, as whoever opens it will say
        if _within(real, [self._own]):
            return
        if not _within(real, self._hidden) and _within(real, ["/dev/null"] if writes else self._readable):
            return
        self._refuse(f"{'write' if writes else 'open'} {name!r}")

    def _refuse(self, what: str, kind: type[Exception] = PermissionError) -> None:
        self._tell(what)
        raise kind(f"this program may not {what}")

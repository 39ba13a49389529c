# What programs do with sockets, by name; exits with 0 where it went as it should.
import ctypes, os, socket, struct, sys, threading

UNIX, STREAM = socket.AF_UNIX, socket.SOCK_STREAM

# The control: the kernel alone.
UNGUARDED = "GUARD_TEST_UNGUARDED" in os.environ


def listening(name):
    server = socket.socket(UNIX, STREAM)
    server.bind(name)
    server.listen(1)
    return server


def names():
    """A socket says the name that it was bound by, to both ends."""
    os.chdir("/tmp")
    os.mkdir("folder")
    for bound, said in [
        ("/tmp/whole.sock", "/tmp/whole.sock"),
        ("relative.sock", "relative.sock"),
        ("folder/below.sock", "/tmp/folder/below.sock"),
        ("/proc/self/cwd/folder/../up.sock", "/tmp/up.sock"),
    ]:
        said = bound if UNGUARDED else said
        server = listening(bound)
        client = socket.socket(UNIX, STREAM)
        client.connect(bound)
        assert server.getsockname() == said, server.getsockname()
        assert client.getpeername() == said, client.getpeername()
        accepted, _ = server.accept()
        client.sendall(b"hello")
        assert accepted.recv(5) == b"hello"
        pid, uid, gid = struct.unpack("3i", accepted.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        # The guard is nobody of this session.
        assert pid == (os.getpid() if UNGUARDED else 0)
        assert (uid, gid) == (os.getuid(), os.getgid())


def modes():
    """The umask of whoever binds holds."""
    for mask, mode in [(0o077, 0o700), (0o022, 0o755)]:
        os.umask(mask)
        name = f"/tmp/{mask:o}.sock"
        listening(name)
        assert os.stat(name).st_mode & 0o777 == mode, oct(os.stat(name).st_mode)


def abstract():
    server = listening("\0session")
    client = socket.socket(UNIX, STREAM)
    client.connect("\0session")
    assert server.getsockname() == b"\0session"
    assert len(socket.socket(UNIX, STREAM).getsockname()) == 0
    nameless = socket.socket(UNIX, STREAM)
    nameless.bind("")
    assert nameless.getsockname().startswith(b"\0")


def waits():
    """A connection that the other end has no room for waits, and nobody else does."""
    server = socket.socket(UNIX, STREAM)
    server.bind("/tmp/full.sock")
    server.listen(0)
    first = socket.socket(UNIX, STREAM)
    first.connect("/tmp/full.sock")
    impatient = socket.socket(UNIX, STREAM)
    impatient.setblocking(False)
    try:
        impatient.connect("/tmp/full.sock")
        raise SystemExit("there was room")
    except BlockingIOError:
        pass
    second = socket.socket(UNIX, STREAM)
    done = threading.Event()
    waiting = threading.Thread(target=lambda: (second.connect("/tmp/full.sock"), done.set()))
    waiting.start()
    other = listening("/tmp/other.sock")
    socket.socket(UNIX, STREAM).connect("/tmp/other.sock")
    assert not done.is_set()
    server.accept()
    waiting.join()
    assert second.getblocking() and done.is_set()
    server.accept()
    other.close()


def internet():
    for family, here in [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")]:
        server = socket.create_server((here, 0), family=family)
        client = socket.create_connection(server.getsockname()[:2])
        server.accept()[0].sendall(b"x")
        assert client.recv(1) == b"x"
        datagrams = socket.socket(family, socket.SOCK_DGRAM)
        datagrams.bind((here, 0))
        sender = socket.socket(family, socket.SOCK_DGRAM)
        sender.connect(datagrams.getsockname()[:2])
        sender.send(b"y")
        assert datagrams.recv(1) == b"y"
        try:
            socket.socket(family, STREAM).bind((here, 80))
            raise SystemExit("a port of the system's")
        except PermissionError:
            pass
        server.close()
        try:
            socket.create_connection(server_name(here, family))
            raise SystemExit("nobody listens there")
        except ConnectionRefusedError:
            pass
    assert socket.if_nameindex()
    assert socket.getaddrinfo("127.0.0.1", 80)


def server_name(here, family):
    server = socket.create_server((here, 0), family=family)
    name = server.getsockname()[:2]
    server.close()
    return name


def mistakes():
    libc = ctypes.CDLL(None, use_errno=True)
    server = socket.socket(UNIX, STREAM)
    file = os.open("/dev/null", os.O_RDONLY)
    good = b"\1\0/tmp/none"
    for number, address, length, expected in [
        (99, good, len(good), "EBADF"),
        (-1, good, len(good), "EBADF"),
        (file, good, len(good), "ENOTSOCK"),
        (server.fileno(), good, 129, "EINVAL"),
        (server.fileno(), good, 2**32 - 1, "EINVAL"),
        (server.fileno(), good, 1, "EINVAL"),
        (server.fileno(), b"\2\0" + bytes(14), 16, "EINVAL"),
        (server.fileno(), 8, 16, "EFAULT"),
        (server.fileno(), good, len(good), "ENOENT"),
    ]:
        came = libc.connect(number, address, ctypes.c_uint(length))
        name = __import__("errno").errorcode[ctypes.get_errno()]
        assert (came, name) == (-1, expected), (number, length, name, expected)


def swapped(folder):
    """One thread connects, and others exchange address, socket and link under it."""
    libc = ctypes.CDLL(None, use_errno=True)
    listening("/tmp/s")
    own, host = b"\1\0/tmp/s".ljust(60, b"\0"), f"\1\0{folder}/host.sock".encode().ljust(60, b"\0")
    shared = ctypes.create_string_buffer(own, 60)
    running = True

    def memory():
        while running:
            ctypes.memmove(shared, host, 60)
            ctypes.memmove(shared, own, 60)

    def link():
        while running:
            for to in [f"{folder}/host.sock", "/tmp/s"]:
                try:
                    os.symlink(to, "/tmp/new")
                    os.rename("/tmp/new", "/tmp/link")
                except OSError:
                    pass

    def numbers():
        pair, _ = socket.socketpair()
        while running:
            libc.dup2(pair.fileno(), 50)
            libc.dup2(fresh.fileno(), 50)

    fresh = socket.socket(UNIX, STREAM)
    libc.dup2(fresh.fileno(), 50)
    threads = [threading.Thread(target=work) for work in (memory, link, numbers)]
    for thread in threads:
        thread.start()
    for _ in range(400):
        for address in (shared, b"\1\0/tmp/link"):
            one = socket.socket(UNIX, STREAM)
            one.setblocking(False)
            libc.connect(one.fileno(), address, len(address))
            libc.connect(50, address, len(address))
            one.close()
    running = False
    for thread in threads:
        thread.join()


def datagram(path):
    """Refused, whatever else lets such a socket be."""
    one = socket.socket(UNIX, socket.SOCK_DGRAM)
    for deed in (one.connect, one.bind):
        try:
            deed(path)
        except PermissionError:
            continue
        raise SystemExit(f"{deed.__name__} went through")


def descriptor(path):
    """By what `/proc` shows of an open file."""
    node = os.open(path, os.O_PATH)
    reach(f"/proc/self/fd/{node}")


def pair(*paths):
    """An end of a pair has no name, and takes one like any socket."""
    for path in paths:
        one, _ = socket.socketpair(UNIX, STREAM)
        try:
            one.bind(path)
            raise SystemExit(1)
        except PermissionError:
            pass
    one, _ = socket.socketpair(UNIX, STREAM)
    one.bind("/tmp/own")


def reach(path):
    try:
        socket.socket(UNIX, STREAM).connect(path)
    except PermissionError:
        raise SystemExit(13)


globals()[sys.argv[1]](*sys.argv[2:])

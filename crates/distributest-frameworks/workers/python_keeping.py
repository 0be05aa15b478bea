"""How a worker process in Python stays for another run, and what it has loaded: the agent keeps it as long as that is unchanged.

Stands behind `python_worker.py` in every worker program in Python. What is read is heard by an audit hook, so it is known
to the last file, unless something else than Python reads: an extension module, a program that is started.
"""


class Staying:
    """What a worker process does when its run has ended, and when another one begins."""

    def __init__(self, agent, loading, prepared):
        self.agent = agent
        self.loading = loading
        self.prepared = prepared

    def ready(self):
        self.agent.ready(self.prepared.version, keeps=True)

    def reason_to_leave(self):
        return self.loading.reason_to_leave() or self.prepared.reason_to_leave()

    def reason_not_to_fork(self):
        """Why a forked process would not do what this one does; None: it would, and this one can go on afterwards."""
        return self.reason_to_leave() or self.loading.reason_not_to_fork()

    def refuse(self, reason):
        self.agent.send(type="unable", message=reason)

    def keep(self):
        reason = self.reason_to_leave()
        if reason is not None:
            self.refuse(reason)
            return
        files = self.loading.files() + self.prepared.depends_on()
        self.agent.send(type="kept", files=files, all=self.loading.is_all())

    def renew(self, message):
        for variable in message["environment"]:
            name, is_set, value = variable.partition("=")
            if is_set:
                os.environ[name] = value
            else:
                os.environ.pop(name, None)
        self.ready()


class Loading:
    """What this process reads from now on, and what it registers to be done at its end."""

    HARMLESS_AT_EXIT = {
        ("execnet.multi", "Group._cleanup_atexit"),  # of pytest-xdist; ends processes, of which there are none
        ("logging", "shutdown"),
        ("multiprocessing.util", "_exit_function"),
        ("weakref", "finalize._exitfunc"),
    }

    # Not written in Python, and loaded by plugins of pytest that many have.
    READING_NOTHING = ("coverage.tracer",)

    def __init__(self):
        self.read = set()
        self.hidden = False  # something was read that can't be known
        self.at_exit = []
        self.process = process_id()
        self.channels = open_channels()
        self.finalizers = set(weakref.finalize._registry)
        register = atexit.register

        def watched_register(function, *arguments, **keywords):
            if process_id() == self.process:
                self.at_exit.append(function)
            return register(function, *arguments, **keywords)

        atexit.register = watched_register
        sys.addaudithook(self.hear)

    def hear(self, event, arguments):
        """Called for everything that Python tells auditors. Forked processes read for themselves."""
        if event == "open":
            file, _, flags = arguments
            if isinstance(file, (str, bytes)) and may_read(flags) and process_id() == self.process:
                self.read.add(os.path.abspath(os.fsdecode(file)))
        elif event in ("subprocess.Popen", "os.system", "os.posix_spawn", "sqlite3.connect"):
            self.hidden = self.hidden or process_id() == self.process

    def reason_to_leave(self):
        """Why this process has to end with its run; None: it has nothing to do then that anybody would miss."""
        others = [thread.name for thread in threading.enumerate() if thread is not threading.main_thread()]
        if others:
            return "loading the project started threads: {}".format(", ".join(others))
        finalizers = [each for each in list(weakref.finalize._registry) if each not in self.finalizers and each.atexit]
        if finalizers or any(self.name(function) not in self.HARMLESS_AT_EXIT for function in self.at_exit):
            return "loading the project registered something to be done at its end"
        return None

    def reason_not_to_fork(self):
        """What a forked process would share with this one that is not memory, or not have."""
        opened = open_channels() - self.channels
        if opened:
            return "loading the project opened {}".format(", ".join(sorted(opened)))
        # 1: POSIX  ADVISORY  WRITE 1234 08:01:4711 0 EOF
        with contextlib.suppress(OSError), open("/proc/locks") as locks:
            if any(str(self.process) in line.split() for line in locks):
                return "loading the project locked a file"
        return None

    def name(self, function):
        return getattr(function, "__module__", None), getattr(function, "__qualname__", None)

    def files(self):
        """What this process has read, and the directories in which it has looked for modules."""
        files = {self.source(file) for file in self.read if not file.startswith(("/dev/", "/proc/", "/sys/"))}
        files.update(os.path.abspath(module) for module in self.module_files())
        project = os.getcwd() + os.sep
        directories = {os.path.abspath(path) for path in sys.path}
        # The agent knows what is in the project.
        files.update(path for path in directories if not (path + os.sep).startswith(project))
        for directory in directories:
            files.update(os.path.join(directory, name) for name in entries(directory) if name.endswith(".pth"))
        files.update((os.path.realpath(sys.executable), os.path.join(sys.prefix, "pyvenv.cfg")))
        # Where there might be an environment that is preferred to this one.
        files.update(os.path.abspath(name) for name in ("pyproject.toml", "poetry.lock", "Pipfile"))
        if sys.prefix != sys.base_prefix and not sys.prefix.startswith(project):
            files.add(os.path.dirname(sys.prefix))
        files.discard(os.path.abspath(__file__))
        return sorted(file for file in files if clean(file) == file)

    def is_all(self):
        """Whether it has read no other files: what is not Python reads unheard."""
        standard = os.path.dirname(os.__file__) + os.sep
        foreign = [file for file in self.module_files() if is_foreign_extension(file, standard)]
        return not self.hidden and not foreign

    def module_files(self):
        modules = [module for name, module in list(sys.modules.items()) if name not in self.READING_NOTHING]
        files = [getattr(module, "__file__", None) for module in modules]
        return [file for file in files if isinstance(file, str)]

    def source(self, file):
        """The source of a file with compiled code, by which that is checked."""
        directory, name = os.path.split(file)
        if os.path.basename(directory) != "__pycache__":
            return file
        return os.path.join(os.path.dirname(directory), name.split(".", 1)[0] + ".py")


def open_channels():
    """The sockets, pipes and the like that this process has open."""
    targets = set()
    for number in entries("/proc/self/fd"):
        # The one that the directory is read with is gone.
        with contextlib.suppress(OSError):
            targets.add(os.readlink("/proc/self/fd/" + number))
    return {target for target in targets if not target.startswith("/")}


def may_read(flags):
    """Whether what was in a file before it was opened with these flags can be read."""
    is_new = flags & os.O_CREAT and flags & os.O_EXCL or flags & os.O_TMPFILE == os.O_TMPFILE
    return not (flags & (os.O_WRONLY | os.O_TRUNC) or is_new)


def is_foreign_extension(file, standard):
    """Whether a module is neither Python's own nor written in Python."""
    is_own = file.startswith(standard) and "-packages" + os.sep not in file
    return not file.endswith((".py", ".pyc")) and not is_own


# Beyond so many files, what stands outside of the project and its interpreter is not looked at.
MOST_FOREIGN_FILES = 20_000


def runtime():
    """What decides on this machine what tests do and is not in the project: the interpreter, the versions of all packages
    that are installed, and the state of other directories that modules come from. None: nobody knows."""
    installed, foreign = installed_packages(), set()
    for place in {os.path.realpath(place) for place in sys.path if os.path.isdir(place)}:
        if not is_below(place, *known_places()):
            foreign.add(place)
    states = [state_of_directory(place) for place in sorted(foreign | editable_places(installed))]
    if None in states:
        return None
    names = sorted(os.path.basename(package) for package in installed)
    known = hashlib.sha256(to_json([names, states]).encode()).hexdigest()[:16]
    machine = "{} {}".format(sys.implementation.name, os.uname().machine)
    return "{} {}, {} packages {}".format(machine, " ".join(sys.version.split()), len(names), known)


def known_places():
    """The project, the interpreter's own directories and the one of this program."""
    own = os.path.dirname(os.path.abspath(sys.argv[0] if sys.argv else ""))
    home = os.path.join(os.path.expanduser("~"), ".local", "lib")
    return [os.path.realpath(place) for place in (os.getcwd(), sys.prefix, sys.base_prefix, home, own)]


def is_below(path, *places):
    return any(path == place or path.startswith(place.rstrip("/") + "/") for place in places)


def installed_packages():
    """What describes each installed package: its name is that and the version."""
    found = []
    for place in sys.path:
        with contextlib.suppress(OSError):
            names = [name for name in os.listdir(place) if name.endswith((".dist-info", ".egg-info", ".egg", ".pth"))]
            found.extend(os.path.join(place, name) for name in names)
    return found


def editable_places(installed):
    """Directories outside of the project from which packages are used without having been copied."""
    places = set()
    for package in installed:
        with contextlib.suppress(OSError, ValueError):
            path = os.path.join(package, "direct_url.json")
            if os.path.exists(path):
                with open(path, encoding="utf-8") as text:
                    origin = json.load(text)
                if origin.get("dir_info", {}).get("editable"):
                    places.add(os.path.realpath(origin["url"].partition("file://")[2]))
    return {place for place in places if not is_below(place, os.path.realpath(os.getcwd()))}


def state_of_directory(directory):
    """Names, sizes and times of all files in it; None where they are too many."""
    files = []
    for place, directories, names in os.walk(directory):
        directories[:] = sorted(name for name in directories if name != "__pycache__" and not name.startswith("."))
        for name in sorted(names):
            with contextlib.suppress(OSError):
                state = os.stat(os.path.join(place, name))
                files.append([os.path.join(place, name), state.st_size, state.st_mtime_ns])
        if len(files) > MOST_FOREIGN_FILES:
            return None
    return files

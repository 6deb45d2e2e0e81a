"""ors-plugin-worker: an ORS plugin in Python that protects one program.

It is written from proto/ors/plugin/v1/plugin.proto and docs/plugins.md alone, with nothing of the Go SDK, and passes
`orscore plugin check`. build.sh makes one file of it. It needs python3-grpcio, python3-protobuf and
python3-cryptography, as Debian has them.

A program must outlive its plugin, and must never be taken for another one that got its pid. So everything that belongs
to an application carries a mark in its environment, which children inherit and nobody else has, and is in a session of
its own. Mark, pid, start time and boot id of the first process are on disk before it becomes the program. A mark that
is found says yes; one that is not says nothing, since a program may write over its environment: then the process of
that start time and its session are looked at.
"""
import base64
import contextlib
import datetime
import fcntl
import json
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from concurrent import futures

VERSION = "1.0.0"
COOKIE = "5c1d9e0f7a3b4e6f8d2a6c04b19f73e5a8d05be2716c4f93"  # plugins/sdk/handshake
MARK = "ORS_WORKER_MARK"
REMEMBERED = 64  # operations whose outcome is kept, for repeats
LONGEST = 600  # seconds that a call without a deadline may take

if os.environ.get("ORS_PLUGIN") != COOKIE:
    sys.exit("ors-plugin-worker is started by the ORS agent, not by hand. `orscore plugin check` tries it out.")

import grpc  # noqa: E402: after the cookie, so that who starts it by hand is told so on any machine
from cryptography import x509  # noqa: E402
from cryptography.hazmat.primitives import hashes, serialization  # noqa: E402
from cryptography.hazmat.primitives.asymmetric import ec  # noqa: E402
from cryptography.x509.oid import NameOID  # noqa: E402

import plugin_pb2 as pb  # noqa: E402: made by build.sh


def log(text):
    """Write one line to the log: standard error, which the core keeps."""
    print(text, file=sys.stderr, flush=True)


# ---------------------------------------------------------------------------------------------------------------------
# Processes, by their mark


def marked(mark):
    """Return the pids of all living processes that carry the mark. A zombie has no environment, and does not live."""
    needle = f"{MARK}={mark}".encode()
    pids = []
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        with contextlib.suppress(OSError), open(f"/proc/{entry}/environ", "rb") as f:
            if needle in f.read().split(b"\0"):
                pids.append(int(entry))
    return pids


def boot():
    """Return what tells this run of the operating system from all others."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as f:
        return f.read().strip()


def stat(pid):
    """Return session and start time (fields 6 and 22 of proc(5)) of a living process, or None."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as f:
            fields = f.read().rpartition(b")")[2].split()
    except OSError:
        return None
    return None if fields[0] in b"ZX" else (int(fields[3]), int(fields[19]))


def session(run):
    """Return the living processes of the run's session, and whether they surely are: its first process lives."""
    pid = run.get("pid") or 0
    if not pid or run.get("boot") != boot():
        return [], True
    first = stat(pid)
    if first and first[1] != run.get("start"):
        return [], True  # the number is another one's by now
    members = [int(e) for e in os.listdir("/proc") if e.isdigit() and (stat(e) or (0, 0))[0] == pid]
    return members, first is not None


def living(run):
    """Return the pids of all that surely belongs to a run and lives."""
    members, sure = session(run)
    return sorted(set(marked(run["mark"]) + (members if sure else [])))


def doubtful(run):
    """Return the pids of what may belong to a run: nobody can tell any more. It is left alone, and told."""
    return sorted(set(session(run)[0]) - set(living(run)))


def strike(run, number):
    """Send a signal to all that belongs to a run. A pidfd is opened first, and then it is looked again: so a pid that
    was given to another process in between is not struck."""
    for pid in living(run):
        with contextlib.suppress(OSError):
            fd = os.pidfd_open(pid)
            try:
                if pid in living(run):
                    signal.pidfd_send_signal(fd, number)
            finally:
                os.close(fd)


def kill_all(run, until):
    """Kill what belongs to a run, and what it starts meanwhile, until nothing is left. True: surely nothing is."""
    while True:
        strike(run, signal.SIGKILL)
        if not living(run):
            return not doubtful(run)
        if time.monotonic() > until:
            return False
        time.sleep(0.01)


# ---------------------------------------------------------------------------------------------------------------------
# What is kept on disk, in the application's work folder


class Refused(Exception):
    """An operation of a core that has lost the group."""


class Failed(Exception):
    """A start that did not work, with a sentence."""


class App:
    """One application. All that must survive this process is in worker.json."""

    def __init__(self, work_dir):
        self.lock = threading.Lock()  # for what changes the state on disk, and for spawning
        self.starts = threading.Lock()  # held by the start that is under way; taken before lock
        self.ended = 0  # grows with each Stop and Kill: a start that is under way gives up
        self.path = os.path.join(work_dir, "worker.json")
        self.spawning = os.path.join(work_dir, "worker.lock")

    def load(self):
        try:
            with open(self.path, encoding="utf-8") as f:
                return json.load(f)
        except FileNotFoundError:
            return fresh()

    def spawns(self):
        """Whether a program is just being made, by this plugin or by one that was killed over it."""
        try:
            with open(self.spawning, "rb") as lock:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
                return False
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True

    def save(self, state):
        while len(state["done"]) > REMEMBERED:
            state["done"].pop(next(iter(state["done"])))
        os.makedirs(os.path.dirname(self.path), exist_ok=True)
        fresh = self.path + ".new"
        with open(fresh, "w", encoding="utf-8") as f:
            json.dump(state, f)
            f.flush()
            os.fsync(f.fileno())
        os.replace(fresh, self.path)
        folder = os.open(os.path.dirname(self.path), os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def admit(self, state, caller):
        """Refuse an epoch that is older than the newest one seen. The newest is on disk before anything is done."""
        if caller.epoch < state["epoch"]:
            raise Refused(f"epoch {caller.epoch} is older than {state['epoch']}: that core has lost the group")
        if caller.epoch > state["epoch"]:
            state["epoch"] = caller.epoch
            self.save(state)


def fresh():
    return {"epoch": 0, "mark": "", "pid": 0, "start": 0, "boot": "", "exit": None, "done": {}}


def remaining(context):
    """Return the seconds until the caller gives up. One that sets no deadline has a very large number, or none."""
    left = context.time_remaining()
    return LONGEST if left is None else min(max(left, 0), LONGEST)


def operation(kind, caller):
    return f"{kind} {caller.boot_id} {caller.operation_id}"


def handle(state):
    return pb.Handle(version=1, state=json.dumps(run_of(state)).encode())


def run_of(state):
    """Return what identifies the run on record. A record of an older release has no start time."""
    return {name: state.get(name, empty) for name, empty in (("mark", ""), ("pid", 0), ("start", 0), ("boot", ""))}


def runs(state, given):
    """Return what may run: the run on disk, and that of a handle, if it can be read."""
    found = [run_of(state)] if state["mark"] else []
    if given.version == 1:
        with contextlib.suppress(ValueError, TypeError, AttributeError, UnicodeDecodeError):
            run = run_of(json.loads(given.state.decode()))
            if isinstance(run["mark"], str) and run["mark"] and run["mark"] != state["mark"]:
                found.append(run)
    return found


# ---------------------------------------------------------------------------------------------------------------------
# The configuration


def seconds(text):
    """Parse a duration such as "500ms", "10s" or "2m"."""
    for unit, factor in (("ms", 0.001), ("s", 1), ("m", 60)):
        number = text[: -len(unit)] if text.endswith(unit) else ""
        if number.replace(".", "", 1).isdigit():
            return float(number) * factor
    raise ValueError(f'"{text}" is no duration: "500ms", "10s" or "2m" would be right')


def endpoint(text):
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise ValueError(f'"{text}" is no HOST:PORT')
    return host.strip("[]"), int(port)


def configuration(raw):
    """Decode what the core sends, and return it with the problems in it: [(attribute, summary, what would be right)]."""
    try:
        c = json.loads(raw)
    except ValueError as e:
        return None, [("", f"the configuration is no JSON: {e}", "The core sends what the schema describes.")]
    if not isinstance(c, dict):
        return None, [("", "the configuration is no object", "The core sends what the schema describes.")]
    problems = []
    command = c.get("command")
    if not isinstance(command, list) or not command or not all(isinstance(a, str) and "\0" not in a for a in command):
        problems.append(("command", "there is no program to run", "Name a program and its arguments."))
    elif not os.path.isabs(command[0]):
        problems.append(("command", f'"{command[0]}" is no absolute path', "Say where the program is."))
    for name, parse, empty in (("check", endpoint, True), ("stop_after", seconds, False)):
        value = c.get(name)
        if not isinstance(value, str):
            problems.append((name, "it is no string", "See the schema."))
        elif value or not empty:
            try:
                parse(value)
            except ValueError as e:
                problems.append((name, str(e), "See the schema."))
    return c, problems


def answers(check):
    """Whether something takes connections there; None: not known. Without a check, what lives is well."""
    if not check:
        return True
    try:
        with socket.create_connection(endpoint(check), timeout=1):
            return True
    except ConnectionRefusedError:
        return False
    except OSError:
        return None  # nothing is known: a time-out proves nothing


# ---------------------------------------------------------------------------------------------------------------------
# The service


class Plugin:
    def __init__(self):
        self.apps = {}
        self.lock = threading.Lock()

    def app(self, application):
        with self.lock:
            return self.apps.setdefault(application.work_dir, App(application.work_dir))

    def Info(self, _, __):
        return pb.InfoResponse(kind="worker", version=VERSION, description="Protects one program, and is written in Python.")

    def Schema(self, _, __):
        attribute = pb.Attribute
        return pb.SchemaResponse(schema=pb.Block(
            description="One program that keeps running.",
            attributes=[
                attribute(name="command", type="list(string)", required=True,
                          description="the program, by its absolute path, and its arguments"),
                attribute(name="check", type="string", default='""',
                          description="HOST:PORT that takes connections while it is well; empty: it lives"),
                attribute(name="stop_after", type="string", default='"10s"',
                          description="how long it may take to end after SIGTERM, before it is killed"),
            ]))

    def Validate(self, request, _):
        _, problems = configuration(request.application.config)
        return pb.ValidateResponse(problems=[
            pb.Problem(severity=pb.Problem.SEVERITY_ERROR, attribute=a, summary=s, detail=d) for a, s, d in problems])

    def Ready(self, request, _):
        c, problems = configuration(request.application.config)
        if not problems and not os.access(c["command"][0], os.X_OK):
            problems.append(("command", f'{c["command"][0]} is no program that can be run here', "Install it."))
        return pb.ReadyResponse(problems=[
            pb.Problem(severity=pb.Problem.SEVERITY_ERROR, attribute=a, summary=s, detail=d) for a, s, d in problems])

    def Start(self, request, context):
        """Tell the steps through a queue, so that the work goes on, or is undone, also when nobody listens any more."""
        told = queue.SimpleQueue()
        threading.Thread(target=self.start, args=(request, context, told), daemon=True).start()
        while True:
            what, value = told.get()
            if what == "step":
                yield pb.StartResponse(progress=pb.Progress(step=value[0], text=value[1]))
            elif what == "started":
                yield pb.StartResponse(started=value)
                return
            else:
                context.abort(grpc.StatusCode.FAILED_PRECONDITION if what == "refused" else grpc.StatusCode.ABORTED, value)

    def start(self, request, context, told):
        try:
            told.put(("started", self.bring_up(request, context, lambda *step: told.put(("step", step)))))
        except Refused as e:
            told.put(("refused", str(e)))
        except Exception as e:  # whatever it is: the core waits for an end
            told.put(("failed", str(e) or type(e).__name__))

    def bring_up(self, request, context, step):
        app = self.app(request.application)
        if not app.starts.acquire(timeout=remaining(context)):
            raise Failed("another start of it is under way")
        try:
            return self.bring_up_alone(app, request, context, step)
        finally:
            app.starts.release()

    def bring_up_alone(self, app, request, context, step):
        c = configuration(request.application.config)[0]
        once = operation("start", request.caller)
        with app.lock:
            state = app.load()
            app.admit(state, request.caller)
            if once in state["done"] or state["mark"] and living(run_of(state)):
                if once in state["done"]:
                    return pb.Handle(version=1, state=state["done"][once].encode())
                step("running", "It runs already.")
                return handle(state)
            if not context.is_active():
                raise Failed("the call has ended before the start")
            if not all(kill_all(run, time.monotonic() + 5) for run in runs(state, request.previous)):
                raise Failed("what is left of it cannot be killed, so it is not started beside that")
            ended = app.ended
            state.update(mark=uuid.uuid4().hex, pid=0, start=0, boot=boot(), exit=None)
            app.save(state)  # before anything runs that carries it
            step("exec", f"Running {c['command'][0]}.")
            child = self.spawn(app, request.application, c, state["mark"])
            state.update(pid=child.pid, start=(stat(child.pid) or (0, 0))[1])
            app.save(state)  # before it becomes the program, which may write over its mark
            with contextlib.suppress(OSError), child.stdin:
                child.stdin.write(b"go\n")
            run = run_of(state)
            threading.Thread(target=self.reap, args=(app, state["mark"], child), daemon=True).start()
        try:
            self.wait_ready(app, ended, context, c, run, step)
        except Failed as e:
            if not kill_all(run, time.monotonic() + 5):
                raise Failed(f"{e}; and what is left of it cannot be killed") from e
            raise
        with app.lock:
            if app.ended != ended:
                raise Failed("it was stopped during its start")
            latest = app.load()
            latest["done"][once] = handle(latest).state.decode()
            app.save(latest)
            return handle(latest)

    def spawn(self, app, application, c, mark):
        out = application.log_file or os.path.join(application.work_dir, "output")
        env = {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), MARK: mark, "ORS_GROUP": application.group,
               "ORS_APPLICATION": application.name}
        for drive in application.drives:
            env["ORS_DRIVE_" + drive.configured_letter.rstrip(":")] = drive.path
        # A plugin that is killed now leaves a child behind that carries no mark yet. It holds this lock until it has. Then
        # it waits for the word that it is on record; when that does not come, it ends.
        wait = ["/bin/sh", "-c", 'read -r _ || exit 1; exec "$@" </dev/null', "sh"]
        with open(out, "ab") as f, open(app.spawning, "wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            return subprocess.Popen(wait + c["command"], stdin=subprocess.PIPE, stdout=f, stderr=f, cwd="/", env=env,
                                    start_new_session=True)

    def reap(self, app, mark, child):
        code = child.wait()
        with app.lock:
            state = app.load()
            if state["mark"] == mark:
                state["exit"] = code
                app.save(state)

    def wait_ready(self, app, ended, context, c, run, step):
        told = False
        while True:
            if app.ended != ended:
                raise Failed("it was stopped during its start")
            if not living(run):
                raise Failed(f"{c['command'][0]} has ended at once; its output says why")
            if answers(c["check"]):
                step("ready", "It lives." if not c["check"] else f"{c['check']} takes connections.")
                return
            if not context.is_active():
                raise Failed("it was not ready in time")
            if not told:
                told = True
                step("check", f"Waiting for {c['check']}.")
            time.sleep(0.05)

    def look(self, request):
        """Return the state on disk, and the processes of the application that live, and that may be its. It changes
        nothing."""
        state = self.app(request.application).load()
        found = runs(state, request.handle)
        return state, [p for run in found for p in living(run)], [p for run in found for p in doubtful(run)]

    def Recover(self, request, _):
        if self.app(request.application).spawns():
            return pb.RecoverResponse(state=pb.RUN_STATE_UNKNOWN, detail="It is just being started.")
        state, alive, perhaps = self.look(request)
        if not alive and perhaps:
            return pb.RecoverResponse(state=pb.RUN_STATE_UNKNOWN, detail=f"Processes that may be its: {perhaps}.")
        if not alive:
            return pb.RecoverResponse(state=pb.RUN_STATE_STOPPED, detail="No process of it lives.")
        if state["mark"]:
            return pb.RecoverResponse(state=pb.RUN_STATE_RUNNING, detail=f"Its processes: {alive}.", handle=handle(state))
        return pb.RecoverResponse(state=pb.RUN_STATE_RUNNING, handle=request.handle,
                                  detail=f"The record is gone; processes of the handle's run: {alive}.")

    def Probe(self, request, _):
        c, problems = configuration(request.application.config)
        state, alive, perhaps = self.look(request)
        if not alive and perhaps:
            return pb.ProbeResponse(health=pb.HEALTH_UNKNOWN, detail=f"Processes that may be its: {perhaps}.")
        if not alive:
            why = "" if state["exit"] is None else f" It ended with {state['exit']}."
            return pb.ProbeResponse(health=pb.HEALTH_FAILED, ended=True, detail="No process of it lives." + why)
        if problems:
            return pb.ProbeResponse(health=pb.HEALTH_UNKNOWN, detail=problems[0][1])
        yes = answers(c["check"])
        if yes is None:
            return pb.ProbeResponse(health=pb.HEALTH_UNKNOWN, detail=f"{c['check']} does not answer in time.")
        if not yes:
            return pb.ProbeResponse(health=pb.HEALTH_FAILED, detail=f"{c['check']} takes no connection.")
        return pb.ProbeResponse(health=pb.HEALTH_OK, detail=f"Process {alive[0]} lives.")

    def Stop(self, request, context):
        c, problems = configuration(request.application.config)
        grace = 0 if problems else seconds(c["stop_after"])
        return self.end("stop", request, context, grace, pb.StopResponse)

    def Kill(self, request, context):
        return self.end("kill", request, context, 0, pb.KillResponse)

    def end(self, kind, request, context, grace, response):
        app = self.app(request.application)
        until = time.monotonic() + max(remaining(context) - 1, 0.2)  # when everything must be over
        once = operation(kind, request.caller)
        unread = ""  # why the record cannot be read: a Kill goes on without, and without being sure
        with app.lock:
            state = fresh()
            try:
                state = app.load()
            except (OSError, ValueError) as e:
                unread = f"the record of it cannot be read: {e}"
                if kind != "kill":
                    context.abort(grpc.StatusCode.UNAVAILABLE, unread)
            try:
                if not unread:  # or the damaged record would be replaced by an empty one
                    app.admit(state, request.caller)
            except Refused as e:
                context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(e))
            except OSError as e:
                if kind != "kill":
                    context.abort(grpc.StatusCode.UNAVAILABLE, f"the record of it cannot be written: {e}")
            if once in state["done"]:
                return response(state=pb.RUN_STATE_STOPPED, detail=state["done"][once])
            app.ended += 1
            found = runs(state, request.handle)
        while app.spawns() and time.monotonic() < until - 2:
            time.sleep(0.01)
        sure, how = not app.spawns(), "It did not run."
        for run in found:
            if living(run):
                how = "It has ended."
                strike(run, signal.SIGTERM if grace else signal.SIGKILL)
                patience = min(time.monotonic() + grace, until - 2)
                while grace and living(run) and time.monotonic() < patience:
                    time.sleep(0.02)
                if living(run):
                    how = "It was killed." if not grace else "It did not end by itself, and was killed."
                sure = kill_all(run, until) and sure
            sure = sure and not doubtful(run)
        if not sure:
            return response(state=pb.RUN_STATE_UNKNOWN, detail="Something of it, or that may be its, cannot be killed.")
        if unread:
            return response(state=pb.RUN_STATE_UNKNOWN, detail=f"{how} But {unread}.")
        if found:
            with app.lock, (contextlib.suppress(OSError) if kind == "kill" else contextlib.nullcontext()):
                state = app.load()
                state["done"][once] = how
                app.save(state)
        return response(state=pb.RUN_STATE_STOPPED, detail=how)


def service(plugin):
    """Name the calls by hand, so that only the messages have to be generated."""
    def unary(name, request):
        return grpc.unary_unary_rpc_method_handler(
            getattr(plugin, name), request_deserializer=request.FromString,
            response_serializer=lambda m: m.SerializeToString())

    calls = {n: unary(n, getattr(pb, n + "Request"))
             for n in ("Info", "Schema", "Validate", "Ready", "Recover", "Probe", "Stop", "Kill")}
    calls["Start"] = grpc.unary_stream_rpc_method_handler(
        plugin.Start, request_deserializer=pb.StartRequest.FromString,
        response_serializer=lambda m: m.SerializeToString())
    return grpc.method_handlers_generic_handler("ors.plugin.v1.PluginService", calls)


# ---------------------------------------------------------------------------------------------------------------------
# The handshake


def certificate():
    """Make a key and a certificate of this process's own, signed by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.utcnow()
    cert = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1)).not_valid_after(now + datetime.timedelta(days=36500))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256()))
    return key, cert


def main():
    core = os.getppid()  # before anything else: it may be gone soon
    key, cert = certificate()
    pem = serialization.Encoding.PEM
    credentials = grpc.ssl_server_credentials(
        [(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()), cert.public_bytes(pem))],
        root_certificates=os.environ["PLUGIN_CLIENT_CERT"].encode(), require_client_auth=True)
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=64))
    server.add_generic_rpc_handlers((service(Plugin()),))
    path = os.path.join(os.environ["PLUGIN_UNIX_SOCKET_DIR"], f"worker{os.getpid()}")
    if server.add_secure_port("unix:" + path, credentials) == 0:
        sys.exit(f"cannot listen on {path}")
    server.start()
    der = base64.b64encode(cert.public_bytes(serialization.Encoding.DER)).decode().rstrip("=")
    print(f"1|1|unix|{path}|grpc|{der}", flush=True)
    while os.getppid() == core:
        time.sleep(1)
    log("the core is gone: the plugin ends, and what it has started goes on")
    os._exit(0)  # a call that hangs would keep it otherwise


if __name__ == "__main__":
    main()

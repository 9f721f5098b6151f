"""mariadb.py - a real MariaDB server for the tests of whole commands; everything lies below appliance.ROOT."""
import os
import pwd
import shutil
import signal
import subprocess

from appliance import alive, children, folder, free_port, kill, wait_for, write

SCRIPTS = "/usr/share/mysql/"
QUICK = ["--innodb-buffer-pool-size=24M", "--innodb-log-file-size=16M", "--innodb-flush-log-at-trx-commit=2",
         "--innodb-flush-method=nosync", "--performance-schema=0"]


def _become():
    """The account of the servers: mysql when we are root, else ourselves."""
    if os.geteuid() == 0:
        user = pwd.getpwnam("mysql")
        return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    return {}


class Mariadb:
    """A server of our own with a binary log, on a socket and a port of 127.0.0.1.  root has no password."""

    def __init__(self, *options, binlog=True, init=()):
        """`init` is said to the making of the system tables as well: the page size must be."""
        self.folder = folder("mariadb")
        self.data = os.path.join(self.folder, "data")
        self.socket = os.path.join(self.folder, "m.sock")
        self.log = os.path.join(self.folder, "server.log")
        self.port = free_port()
        os.mkdir(self.data, 0o700)
        if os.geteuid() == 0:
            shutil.chown(self.folder, "mysql", "mysql")
            shutil.chown(self.data, "mysql", "mysql")
        self.options = [*QUICK, *(["--log-bin=bin", "--server-id=1", "--binlog-format=ROW"] if binlog else []),
                        *init, *options]
        self.process = None
        self._make_system_tables(init)
        self.start()

    @classmethod
    def of_copy(cls, data, *options):
        """A server on a restored and prepared folder."""
        copy = cls.__new__(cls)
        copy.folder = folder("copy")
        copy.data, copy.port, copy.process = data, free_port(), None
        copy.socket = os.path.join(copy.folder, "m.sock")
        copy.log = os.path.join(copy.folder, "server.log")
        copy.options = [*QUICK, *options]
        if os.geteuid() == 0:
            shutil.chown(copy.folder, "mysql", "mysql")
            for place, _, names in os.walk(data):
                for path in [place, *(os.path.join(place, name) for name in names)]:
                    shutil.chown(path, "mysql", "mysql")
        copy.start()
        return copy

    def _make_system_tables(self, init):
        text = "CREATE DATABASE mysql;\nUSE mysql;\nSET @auth_root_socket=NULL;\nSET @skip_auth_anonymous=1;\n" \
               "SET @current_hostname='localhost';\n"
        for name in ("mysql_system_tables.sql", "mysql_system_tables_data.sql"):
            with open(SCRIPTS + name, encoding="utf-8") as file:
                text += file.read()
        done = subprocess.run(["/usr/sbin/mariadbd", "--no-defaults", "--bootstrap", f"--datadir={self.data}", *QUICK,
                               *init], input=text, capture_output=True, text=True, cwd=self.folder, **_become())
        assert done.returncode == 0, f"the system tables could not be made: {done.stderr[-3000:]}"

    def start(self, *more):
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                ["/usr/sbin/mariadbd", "--no-defaults", f"--datadir={self.data}", f"--socket={self.socket}",
                 f"--port={self.port}", "--bind-address=127.0.0.1", f"--pid-file={self.folder}/m.pid",
                 *self.options, *more], stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder,
                env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "TZ": "UTC"}, start_new_session=True, **_become())
        wait_for("the server", self._answers, 60)

    def _answers(self):
        if self.process.poll() is not None:
            with open(self.log, encoding="utf-8", errors="replace") as file:
                raise AssertionError("the server ended:\n" + file.read()[-3000:])
        return self.try_sql("SELECT 1").returncode == 0

    def stop(self, how=signal.SIGTERM):
        below = children(self.process.pid)
        self.process.send_signal(how)
        self.process.wait(60)
        for pid in below:
            kill(pid)
        wait_for("the server's processes to go", lambda: not any(alive(pid) for pid in below))

    def restart(self, *more):
        self.stop()
        self.start(*more)

    def try_sql(self, text, database=None):
        return subprocess.run(["/usr/bin/mariadb", "--no-defaults", f"--socket={self.socket}", "--user=root", "-NB",
                               *([database] if database else [])], input=text, capture_output=True, text=True)

    def sql(self, text, database=None):
        """Any number of statements; gives the rows as the client prints them."""
        done = self.try_sql(text, database)
        assert done.returncode == 0, f"{text[:500]}: {done.stderr}"
        return done.stdout.strip()

    def connection(self, user="root", socket=True):
        """Words of the setting `connection`."""
        return f"socket={self.socket} user={user}" if socket else f"host=127.0.0.1 port={self.port} user={user} tls=no"

    def password_file(self, password):
        return write(os.path.join(folder("secret", 0o700), "password"), password + "\n")

    def gtid(self):
        return self.sql("SELECT @@gtid_current_pos")

"""sshd.py - a real sshd on a free port of 127.0.0.1 with keys of its own, that offers internal-sftp."""
import os
import socket
import subprocess

from appliance import alive, children, folder, free_port, kill, wait_for, write


class Sshd:
    def __init__(self, programs=False):
        """With `programs`, it runs what it is asked to."""
        self.folder = folder("sshd", 0o700)
        self.port = free_port()
        self.identity = os.path.join(self.folder, "client")
        self.known_hosts = os.path.join(self.folder, "known_hosts")
        host = os.path.join(self.folder, "host")
        for key in (host, self.identity):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
        with open(host + ".pub", encoding="utf-8") as file:
            write(self.known_hosts, f"[127.0.0.1]:{self.port} {file.read()}")
        self.config = write(os.path.join(self.folder, "config"), "\n".join([
            f"Port {self.port}", "ListenAddress 127.0.0.1", f"HostKey {host}", "PidFile none",
            f"AuthorizedKeysFile {self.identity}.pub", "StrictModes no", "UsePAM no", "PasswordAuthentication no",
            "PermitRootLogin prohibit-password", "KbdInteractiveAuthentication no", "Subsystem sftp internal-sftp",
            *([] if programs else ["ForceCommand internal-sftp"]), "MaxStartups 100", ""]))
        if os.geteuid() == 0:
            os.makedirs("/run/sshd", exist_ok=True)
        self.process = None
        self.start()

    def start(self):
        self.process = subprocess.Popen(["/usr/sbin/sshd", "-D", "-e", "-f", self.config], stdin=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL, start_new_session=True)
        wait_for("sshd", self._answers)

    def _answers(self):
        assert self.process.poll() is None, "sshd ended"
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self):
        """With all its connections."""
        below = children(self.process.pid)
        self.process.kill()
        self.process.wait()
        for pid in below:
            kill(pid)
        wait_for("the connections' end", lambda: not any(alive(pid) for pid in below))

    def change_host_key(self):
        """As if another host answered."""
        self.stop()
        host = os.path.join(self.folder, "host")
        os.remove(host)
        os.remove(host + ".pub")
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", host], check=True)
        self.start()

    def place(self, path):
        return f"ssh://127.0.0.1:{self.port}{path}"

    def settings(self):
        return f"ssh:\n  identity_file: {self.identity}\n  known_hosts: {self.known_hosts}\n"

#!/usr/bin/env python3
"""Boots the appliance in qemu and does what a person does at its console.

Usage: test.py FOLDER [SECONDS]   FOLDER has evenkeel.raw; each step may take SECONDS (default 900). The processor is
emulated, which works everywhere and takes minutes; EVENKEEL_KVM=1 takes the machine's own. From BIOS: the first screen on the serial line, a host name set by keystrokes and confirmed,
the web UI asked. Then the power is cut, and the same disk boots from UEFI (where ovmf is installed): the name is
still there. Exit 0 when all of it was seen.
"""

import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time

NAME = "lb7-of-the-test"
OVMF = "/usr/share/OVMF/OVMF_CODE.fd", "/usr/share/OVMF/OVMF_VARS.fd"


class Screen:
    """What stands on a terminal of 80x24, of the sequences that the console sends."""

    def __init__(self):
        self.rows = [[" "] * 80 for _ in range(24)]
        self.x = self.y = 0
        self.rest = ""

    def feed(self, text):
        text = self.rest + text
        at = 0
        while at < len(text):
            letter = text[at]
            if letter == "\x1b":
                found = re.match(r"\x1b\[([0-9;?]*)([@-~])", text[at:])
                if not found:
                    if len(text) - at < 16 and re.fullmatch(r"\x1b(\[[0-9;?]*)?", text[at:]):
                        break
                    at += 1
                    continue
                numbers, kind = found.groups()
                if kind == "H":
                    place = [int(n or 1) for n in (numbers or "1;1").split(";")]
                    self.y, self.x = min(place[0], 24) - 1, min(place[-1], 80) - 1
                elif kind == "J" and numbers in ("", "2"):
                    self.rows = [[" "] * 80 for _ in range(24)]
                at += found.end()
                continue
            if letter == "\n":
                self.y = min(self.y + 1, 23)
            elif letter == "\r":
                self.x = 0
            elif letter >= " " and self.x < 80:
                self.rows[self.y][self.x] = letter
                self.x += 1
            at += 1
        self.rest = text[at:]

    def text(self):
        return "\n".join("".join(row).rstrip() for row in self.rows)


class Machine:
    def __init__(self, folder, disk, firmware, port, limit):
        self.limit = limit
        self.screen = Screen()
        self.log = open(os.path.join(folder, f"serial-{firmware}.log"), "wb")
        path = os.path.join(folder, f"{firmware}.sock")
        fast = bool(os.environ.get("EVENKEEL_KVM"))
        command = [
            "qemu-system-x86_64", "-machine", "q35", "-m", "1024", "-smp", "2", "-display", "none", "-nodefaults",
            "-accel", "kvm" if fast else "tcg,thread=multi", "-cpu", "host,-arch-capabilities" if fast else "max",
            "-drive", f"file={disk},format=qcow2,if=virtio,cache=writethrough",
            "-netdev", f"user,id=n,hostfwd=tcp:127.0.0.1:{port}-:9443", "-device", "virtio-net-pci,netdev=n",
            "-device", "VGA", "-chardev", f"socket,id=s,path={path},server=on,wait=on", "-serial", "chardev:s",
        ]
        if firmware == "uefi":
            variables = os.path.join(folder, "vars.fd")
            shutil.copy(OVMF[1], variables)
            command += ["-drive", f"if=pflash,format=raw,readonly=on,file={OVMF[0]}"]
            command += ["-drive", f"if=pflash,format=raw,file={variables}"]
        self.process = subprocess.Popen(command, stderr=self.log)
        self.line = socket.socket(socket.AF_UNIX)
        for _ in range(200):
            try:
                self.line.connect(path)
                break
            except OSError:
                time.sleep(0.1)
        self.line.settimeout(1)

    def look(self):
        """Takes what has come within a second."""
        try:
            data = self.line.recv(65536)
        except TimeoutError:
            return
        if not data:
            raise SystemExit("qemu has ended")
        self.log.write(data)
        self.log.flush()
        self.screen.feed(data.decode("utf-8", "replace"))

    def wait(self, what):
        begin = time.monotonic()
        while not re.search(what, self.screen.text()):
            if time.monotonic() - begin > self.limit:
                raise SystemExit(f"{what!r} did not come within {self.limit} s:\n{self.screen.text()}")
            self.look()
        print(f"{time.monotonic() - begin:6.1f} s  {what}", flush=True)

    def keys(self, text):
        for letter in text:
            self.line.sendall(letter.encode())
            # A serial line is slow, and so may the machine be.
            time.sleep(0.2)

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.line.close()


def web_ui(port, limit):
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    begin = time.monotonic()
    while True:
        try:
            with socket.create_connection(("127.0.0.1", port), 10) as plain:
                plain.settimeout(30)
                with context.wrap_socket(plain) as link:
                    link.sendall(b"GET /api/v1/door HTTP/1.0\r\nHost: lb\r\n\r\n")
                    answer = b""
                    while part := link.recv(4096):
                        answer += part
                    if b"200 OK" in answer and b'"first":true' in answer:
                        print("         the web UI answers, and waits for its first person", flush=True)
                        return
        except OSError as error:
            answer = str(error)
        if time.monotonic() - begin > limit:
            raise SystemExit(f"the web UI does not answer: {answer}")
        time.sleep(2)


def main():
    folder, limit = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 900
    image = os.path.abspath(os.path.join(folder, "evenkeel.raw"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="evenkeel-image-") as work:
        disk = os.path.join(work, "disk.qcow2")
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", image, disk], check=True)
        print("BIOS", flush=True)
        machine = Machine(work, disk, "bios", port, limit)
        try:
            machine.wait("What shall be done")
            machine.wait("First code +[0-9a-z]{5}-")
            machine.wait("https://10\\.0\\.2\\.15:9443/")
            machine.keys("2")
            machine.wait("> Host name")
            machine.keys("\x7f" * 12 + NAME + "\r")
            machine.wait("This would be changed")
            machine.wait(f"host name: {NAME}")
            machine.keys("\r")
            machine.wait("Does it work")
            machine.keys("\r")
            machine.wait("The change is kept")
            machine.keys("\r")
            machine.wait(f"Evenkeel .* {NAME} .*active")
            print(machine.screen.text(), flush=True)
            web_ui(port, limit)
            # The address that DHCP gave becomes one by hand: asked at it before it is kept.
            machine.keys("1")
            machine.wait("Network interfaces -")
            machine.keys("1")
            machine.wait("> DHCP")
            machine.keys("\r")
            machine.wait("This would be changed")
            machine.wait("10\\.0\\.2\\.15/24")
            machine.keys("\r")
            machine.wait("Does it work")
            web_ui(port, limit)
            machine.keys("\r")
            machine.wait("The change is kept")
        finally:
            # As when the power is cut: what was confirmed must be on the disk.
            machine.kill()
        if not os.path.exists(OVMF[0]):
            print("UEFI is not tried: apt install ovmf", flush=True)
            return
        print("UEFI, after the power was cut", flush=True)
        machine = Machine(work, disk, "uefi", port, limit)
        try:
            machine.wait("What shall be done")
            machine.wait(f"Evenkeel .* {NAME} .*active")
            web_ui(port, limit)
        finally:
            machine.kill()


# Ended by a signal, qemu ends too.
signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended"))
main()

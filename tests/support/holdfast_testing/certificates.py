"""Certificates for tests, made with openssl: an authority, servers' and clients' certificates."""

import pathlib
import subprocess

_EXTENSIONS = """
[authority]
basicConstraints = critical,CA:TRUE
keyUsage = critical,keyCertSign,cRLSign
[leaf]
basicConstraints = critical,CA:FALSE
subjectAltName = {names}
"""


def _openssl(*arguments):
    done = subprocess.run(
        ["openssl", *[str(argument) for argument in arguments]],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, f"openssl {' '.join(map(str, arguments))}\n{done.stderr}"


class Authority:
    """Signs certificates in `directory`. `file` is its own certificate, for CAFile options."""

    def __init__(self, directory, name="Holdfast test authority"):
        self.directory = pathlib.Path(directory, name.replace(" ", "-"))
        self.directory.mkdir()
        self.file = self.directory / "authority.pem"
        self._key = self.directory / "authority.key"
        self._count = 0
        config = self._config("DNS:unused")
        _openssl(
            *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
            *("-nodes", "-days", "30", "-subj", f"/CN={name}", "-keyout", self._key),
            *("-out", self.file, "-config", config, "-extensions", "authority"),
        )

    def _config(self, names):
        path = self.directory / f"{self._count}.cnf"
        path.write_text(
            "[req]\ndistinguished_name = dn\n[dn]\n" + _EXTENSIONS.format(names=names)
        )
        return path

    def issue(self, name, names="DNS:localhost,IP:127.0.0.1", days=20):
        """A PEM file with certificate and key, as certificateKeyFile wants it. days < 0: it has
        expired."""
        self._count += 1
        key = self.directory / f"{self._count}.key"
        request = self.directory / f"{self._count}.csr"
        certificate = self.directory / f"{self._count}.crt"
        config = self._config(names)
        _openssl(
            *("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
            *("-nodes", "-subj", f"/O=Holdfast/CN={name}", "-keyout", key, "-out", request),
            *("-config", config),
        )
        _openssl(
            *("x509", "-req", "-in", request, "-CA", self.file, "-CAkey", self._key),
            *("-CAcreateserial", "-days", days, "-out", certificate),
            *("-extfile", config, "-extensions", "leaf"),
        )
        both = self.directory / f"{self._count}-{name}.pem"
        both.touch(0o600)
        both.write_text(certificate.read_text() + key.read_text())
        return both

    @staticmethod
    def parts(both):
        """(certificate file, key file) of what issue() made, for programs that want two."""
        stem = both.name.split("-", 1)[0]
        return both.with_name(f"{stem}.crt"), both.with_name(f"{stem}.key")

#!/usr/bin/env python3
"""Lays out a folder in which nginx runs the project's own configuration as an ordinary user, for the tests.

usage: nginx-stage.py DIR --site SITE [--http PORT] [--https PORT] [--upstream HOST:PORT] [--origin ORIGIN] [--verify-client on] [--one-request]
       nginx-stage.py --check            every site of nginx/ through `nginx -t`, in a temporary folder

What a person changes is changed here too and nothing else: ports, names, certificates, where Pharos listens, an origin of pages. A line
that should be there to change and is not is an error, so that the tests never run something other than what users copy.
DIR then holds nginx.conf, a certificate for localhost (cert.pem) with its key, the one to trust (ca-cert.pem), and a client's
certificate (client-cert.pem, client-key.pem) of an authority of its own:
    nginx -e error.log -p DIR -c nginx.conf            in the foreground; all files that nginx writes stay in DIR
"""

import argparse
import pathlib
import shutil
import subprocess
import sys
import tempfile

SOURCE = pathlib.Path(__file__).resolve().parents[2] / "nginx"
SITES = sorted(path.stem for path in (SOURCE / "sites").glob("*.conf"))
MAIN = """\
daemon off;
worker_processes 1;
pid {dir}/nginx.pid;
error_log {dir}/error.log warn;
events {{ worker_connections 1024; }}
http {{
    include /etc/nginx/mime.types;
    client_body_temp_path {dir}/tmp-body;
    proxy_temp_path {dir}/tmp-proxy;
    fastcgi_temp_path {dir}/tmp-fastcgi;
    uwsgi_temp_path {dir}/tmp-uwsgi;
    scgi_temp_path {dir}/tmp-scgi;
    include {dir}/conf.d/*.conf;
    include {dir}/site.conf;
}}
"""


def replaced(text, old, new, count):
    """`text` with `old` replaced, which must occur exactly `count` times."""
    if text.count(old) != count:
        sys.exit(f"nginx-stage: expected {count} times {old!r} in nginx/, found {text.count(old)}")
    return text.replace(old, new)


def stage(folder, given):
    """Fills `folder` for one site."""
    folder.mkdir(parents=True, exist_ok=True)
    for part in ("conf.d", "snippets"):
        shutil.copytree(SOURCE / part, folder / part, dirs_exist_ok=True)
    upstreams = folder / "conf.d/pharos-upstream.conf"
    text = replaced(upstreams.read_text(), "server 127.0.0.1:9090;", f"server {given.upstream};", 2)
    if given.origin:
        text = replaced(text, '# "https://app.example.com" $http_origin;', f'"{given.origin}" $http_origin;', 1)
    if given.one_request:
        text = replaced(replaced(text, "rate=500r/s", "rate=1r/m", 1), "rate=100r/s", "rate=1r/m", 1)
        for path in [*(folder / "snippets").glob("*.conf")]:
            path.write_text(path.read_text().replace("burst=1000 nodelay", "burst=1 nodelay").replace("burst=300 nodelay", "burst=1 nodelay"))
    upstreams.write_text(text)
    text = (SOURCE / f"sites/{given.site}.conf").read_text()
    text = replaced(text, "listen [::]:80;", "", 1)
    text = replaced(text, "listen [::]:443 ssl http2;", "", 1)
    text = replaced(text, "listen 80;", f"listen 127.0.0.1:{given.http};", 1)
    text = replaced(text, "listen 443 ssl http2;", f"listen 127.0.0.1:{given.https} ssl http2;", 1)
    if given.site != "pharos-tenants":
        text = replaced(text, "server_name pharos.example.com;", "server_name localhost;", 2)
    text = replaced(text, "/etc/letsencrypt/live/pharos.example.com/fullchain.pem", f"{folder}/cert.pem", 1)
    text = replaced(text, "/etc/letsencrypt/live/pharos.example.com/privkey.pem", f"{folder}/key.pem", 1)
    if given.one_request:
        text = text.replace("burst=1000 nodelay", "burst=1 nodelay").replace("burst=300 nodelay", "burst=1 nodelay")
    if given.site == "pharos-mtls":
        text = replaced(text, "/etc/nginx/pharos-clients-ca.pem", f"{folder}/clients-ca-cert.pem", 1)
        text = replaced(text, "ssl_verify_client optional;", f"ssl_verify_client {given.verify_client};", 1)
    (folder / "site.conf").write_text(text)
    (folder / "nginx.conf").write_text(MAIN.format(dir=folder))
    if not (folder / "cert.pem").exists():
        certify(folder)


def certify(folder):
    """Makes authorities and their certificates, with all extensions that strict clients ask for (Python 3.13, rustls)."""

    def make(name, subject, extensions, more=()):
        command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30".split()
        # An empty configuration: Debian's default would add extensions of its own.
        command += ["-config", "/dev/null", "-subj", f"/CN={subject}", "-keyout", str(folder / f"{name}key.pem"), "-out", str(folder / f"{name}cert.pem")]
        command += [part for extension in extensions for part in ("-addext", extension)]
        subprocess.run([*command, *more], check=True, capture_output=True)

    def authority(name, subject):
        make(name, subject, ["basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign,cRLSign", "subjectKeyIdentifier=hash"])

    def leaf(name, subject, issuer, usage, names):
        extensions = ["basicConstraints=critical,CA:FALSE", "keyUsage=critical,digitalSignature", f"extendedKeyUsage={usage}"]
        extensions += ["subjectKeyIdentifier=hash", "authorityKeyIdentifier=keyid", f"subjectAltName={names}"]
        make(name, subject, extensions, ["-CA", str(folder / f"{issuer}cert.pem"), "-CAkey", str(folder / f"{issuer}key.pem")])

    authority("ca-", "Pharos test authority")
    leaf("", "localhost", "ca-", "serverAuth", "DNS:localhost,DNS:*.pharos.example.com,IP:127.0.0.1")
    authority("clients-ca-", "Pharos test authority of clients")
    leaf("client-", "agent", "clients-ca-", "clientAuth", "URI:spiffe://test/agent/a1")


def check():
    """`nginx -t` on every site; a warning is a failure."""
    failed = False
    for site in SITES:
        with tempfile.TemporaryDirectory(prefix="pharos-nginx-") as folder:
            stage(pathlib.Path(folder), arguments().parse_args(["--site", site, "--origin", "https://app.example.com"]))
            done = subprocess.run(["nginx", "-t", "-e", "stderr", "-p", folder, "-c", "nginx.conf"], capture_output=True, text=True)
            clean = done.returncode == 0 and "[warn]" not in done.stderr
            print(f"nginx/sites/{site}.conf: {'ok' if clean else 'refused'}")
            if not clean:
                failed = True
                print(done.stderr, file=sys.stderr)
    sys.exit(1 if failed or not SITES else 0)


def arguments():
    """What a stage is told."""
    known = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known.add_argument("dir", nargs="?", type=pathlib.Path)
    known.add_argument("--check", action="store_true")
    known.add_argument("--site", choices=SITES, default="pharos")
    known.add_argument("--http", type=int, default=8080)
    known.add_argument("--https", type=int, default=8443)
    known.add_argument("--upstream", default="127.0.0.1:9090")
    known.add_argument("--origin")
    known.add_argument("--verify-client", choices=["on", "optional"], default="optional")
    known.add_argument("--one-request", action="store_true", help="rates at which an address has no second chance for a minute")
    return known


def main():
    known = arguments()
    given = known.parse_args()
    if given.check:
        check()
    if given.dir is None:
        known.error("DIR is missing")
    stage(given.dir.resolve(), given)


if __name__ == "__main__":
    main()

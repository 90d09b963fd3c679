"""The database of the preview, by psql: no module beyond python's own is needed."""

import glob
import os
import subprocess
from urllib.parse import unquote, urlsplit

# Debian's own /usr/bin/psql wants the host's /etc; elsewhere it is in the path.
PSQL = (sorted(glob.glob("/usr/lib/postgresql/*/bin/psql")) or ["psql"])[-1]
_url = urlsplit(os.environ["DATABASE_URL"])
# The password goes through the environment: arguments can be seen by others.
_env = {
    "PGHOST": _url.hostname,
    "PGPORT": str(_url.port),
    "PGUSER": unquote(_url.username),
    "PGPASSWORD": unquote(_url.password),
    "PGDATABASE": unquote(_url.path[1:]),
}


def sql(statement, **values):
    args = [PSQL, "-XAtq", "-v", "ON_ERROR_STOP=1"]
    for name, value in values.items():
        args += ["-v", f"{name}={value}"]
    return subprocess.run(args, input=statement, env=_env, text=True, check=True, stdout=subprocess.PIPE).stdout

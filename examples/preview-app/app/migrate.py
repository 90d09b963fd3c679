"""The setup of a commit: brings the tables up to date, each step once."""

import pathlib

from database import sql

sql("CREATE TABLE IF NOT EXISTS migration (name text PRIMARY KEY);")
done = set(sql("SELECT name FROM migration;").split())
for step in sorted(pathlib.Path("migrations").glob("*.sql")):
    if step.name not in done:
        sql("BEGIN;\n" + step.read_text() + "\nINSERT INTO migration VALUES (:'name'); COMMIT;", name=step.name)
        print("migrated", step.name)

// Package database manages a private PostgreSQL, or uses the host's own
// (System): the cluster, and in it one
// login role and one database for each database that an object asks for.
//
// Invariants:
//   - The mark of a role is its comment, and so is that of the one database that
//     it owns: only a superuser can change the comment of a role, while the
//     owner of a database may forge the comment of that, but can neither give
//     the database away nor rename it. The role's comment also keeps label,
//     policy and extensions. The database's comment repeats it for people;
//     where it differs it is written anew.
//   - No database exists without a mark for a moment. CREATE DATABASE cannot be
//     part of a transaction, so a database is born as a spare, owned by the
//     superuser, whose very name carries the installation id. One transaction
//     turns the spare into the object's database: name, owner, privileges,
//     comment. A crash in between leaves a spare, which the next Put uses.
//   - A copy of a template is on its way under a name like a spare's, until all
//     that is in it is its role's. Nothing is written to the template.
//   - A database that somebody else made is refused (DatabaseConflict), as is a
//     role (RoleConflict); neither is ever changed.
//   - PostgreSQL never learns a password, only a SCRAM verifier of one that is
//     stored already. No password is in an argument, an environment, a log or
//     an error.
//   - A role reaches its own database from its own address and nothing else:
//     pg_hba.conf is ours whole and lists exactly that (weaker with System). Once an access is
//     deleted, no connection that it allowed is open.
//   - Data of an object leaves by its policy only: Delete dumps to the trash,
//     makes the dump durable, then drops. Retain leaves database and role, the
//     role without login and password, both marked "retained".
//   - What PostgreSQL says is Unknown while it is down or slow, within
//     observeTimeout. Observing starts no process and changes nothing.
package database

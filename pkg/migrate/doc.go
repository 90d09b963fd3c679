// Package migrate turns containers that something else has made into specs:
// those of the scripts agent.sh and preview.sh, by their tracking files, and
// every other one that NixOS's container@.service knows, by its configuration.
//
// It only reads, and below one directory: the host's root, or a copy of it.
// Links are read, never followed. Of secrets it takes the names.
package migrate

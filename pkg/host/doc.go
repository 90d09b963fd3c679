// Package host holds the doors to the operating system that every driver
// shares: where files live, how a command is run, how a file is written so
// that a crash leaves the old one or the new one.
package host

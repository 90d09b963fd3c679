// Package demo runs the demo as a new user does, and judges it by what it
// prints and by its exit code: the demo itself compares the host before and after.
package demo

// Package doctor says whether a host is one that tekton runs well on, and what
// to do where it is not: facts in, findings out.
//
// Invariants:
//   - Judge reads nothing but its argument; package onhost gathers the facts and
//     carries out the changes that findings propose;
//   - what could not be looked at is Unknown, never fine;
//   - each known bad version names its source;
//   - a proposed change is safe, can be undone by hand, and doing it twice is
//     doing it once.
package doctor

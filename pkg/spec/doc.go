// Package spec turns YAML into objects that know where each of their fields
// was written, and objects back into YAML.
//
// Invariants:
//   - any input is answered: with objects, with problems, never with a panic,
//     never with more than MaxFile bytes read or MaxAliased values expanded;
//   - every problem has a position in the file, and all of a file's problems
//     are reported at once, at most MaxProblems;
//   - a document with a problem yields no object; the file's other documents do;
//   - YAML that readers disagree on (no, 010, 1.10 for a text) is refused, never guessed;
//   - an object that is marshalled and decoded again has the same digest.
package spec

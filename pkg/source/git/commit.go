package git

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"tekton.host/pkg/repository"
	"tekton.host/pkg/source"
	"tekton.host/pkg/spec"
)

const (
	// maxTree bounds the listing of a directory: a hundred thousand entries.
	maxTree = 16 << 20
	// maxFiles bounds the spec files of a commit.
	maxFiles = 20_000
	// maxContent bounds all spec files of a commit together.
	maxContent = 64 << 20
)

// reading is what the spec files of a commit say.
type reading struct {
	repository.Commit
	objects  []spec.Object
	problems []spec.Problem
	files    []string
	contents map[blob]content
	decoded  int // files that no earlier reading knew
}

// blob is a file's content under its name.
type blob struct{ file, id string }

// content is what a file says.
type content struct {
	objects  []spec.Object
	problems []spec.Problem
}

// entry of a tree.
type entry struct {
	mode, kind, id string
	size           int64
	name           string
}

// read reads a commit: its listing, and of its files those that are not as
// they were in the commit in effect.
func (s *Source) read(ctx context.Context, r *runner, c repository.Commit) (*reading, error) {
	entries, err := r.tree(ctx, c)
	if err != nil {
		return nil, err
	}
	if len(entries) > maxFiles {
		return nil, &Rejection{Commit: c.ID, Err: fmt.Errorf("it has %d spec files; at most %d are possible in one source", len(entries), maxFiles)}
	}
	out := &reading{Commit: c, contents: map[blob]content{}}
	known := map[blob]content{}
	s.mu.Lock()
	if s.good != nil {
		known = s.good.contents
	}
	s.mu.Unlock()
	var missing []blob
	var total int64
	for _, e := range entries {
		b := blob{path.Join(s.Path, e.name), e.id}
		out.files = append(out.files, b.file)
		if p := refuse(e, b.file); p != nil {
			out.problems = append(out.problems, *p)
			continue
		}
		if total += e.size; total > maxContent {
			return nil, &Rejection{Commit: c.ID, Err: fmt.Errorf("its spec files have more than %d bytes together; split them over several sources", maxContent)}
		}
		if have, ok := known[b]; ok {
			out.contents[b] = have
		} else {
			missing = append(missing, b)
		}
	}
	if err := s.decodeAll(ctx, r, out, missing); err != nil {
		return nil, err
	}
	for _, e := range entries {
		have := out.contents[blob{path.Join(s.Path, e.name), e.id}]
		out.objects = append(out.objects, have.objects...)
		out.problems = append(out.problems, have.problems...)
	}
	return out, nil
}

func (s *Source) decodeAll(ctx context.Context, r *runner, out *reading, missing []blob) error {
	ids := make([]string, len(missing))
	for i, b := range missing {
		ids[i] = b.id
	}
	contents, err := r.blobs(ctx, ids)
	if err != nil {
		return err
	}
	out.decoded = len(missing)
	for i, b := range missing {
		if len(bytes.TrimSpace(contents[i])) == 0 {
			out.contents[b] = content{problems: []spec.Problem{*problem(b.file, source.ReasonEmptyFile, "is empty; next step: write it again, or remove the file if its objects are to go")}}
			continue
		}
		objects, problems := s.Decode(b.file, contents[i])
		out.contents[b] = content{objects, problems}
	}
	return nil
}

// all are the commit's problems if it is to be taken whole, each as COMMIT:PATH.
func (r *reading) all() []spec.Problem {
	out := slices.Clone(r.problems)
	first := map[string]spec.Position{}
	for _, o := range r.objects {
		name := o.Meta().Name
		unique := o.UniqueName()
		if was, used := first[unique]; used {
			out = append(out, o.Problem("metadata.name", spec.ReasonDuplicateName, fmt.Sprintf("%q is already the name of the object at %s; names are unique across all kinds that run a machine, and among Repositories", name, was)))
			continue
		}
		first[unique] = o.FieldPosition("metadata.name")
	}
	if more := len(out) - spec.MaxProblems; more > 0 {
		last := out[spec.MaxProblems]
		out = append(out[:spec.MaxProblems], spec.Problem{Position: last.Position, Reason: last.Reason, Message: fmt.Sprintf("and %d more problems from here on", more)})
	}
	for i := range out {
		out[i].File = short(r.ID) + ":" + out[i].File
	}
	return out
}

// refuse names entries that are no plain files.
func refuse(e entry, file string) *spec.Problem {
	switch {
	case !utf8.ValidString(e.name) || strings.ContainsFunc(e.name, unicode.IsControl):
		return problem(strconv.Quote(file), source.ReasonNotRegularFile, "has a name that cannot be printed; rename it")
	case e.mode == "120000":
		return problem(file, source.ReasonNotRegularFile, "is a symbolic link, which is not followed; replace it by a copy")
	case e.kind == "commit":
		return problem(file, source.ReasonNotRegularFile, "is a submodule, which is not followed; rename it, or make it a source of its own")
	case e.kind != "blob":
		return problem(file, source.ReasonNotRegularFile, "is a directory, not a file; rename it")
	case e.size > source.MaxFileSize:
		return problem(file, source.ReasonFileTooLarge, fmt.Sprintf("is larger than %d bytes; split it into several files", source.MaxFileSize))
	}
	return nil
}

func problem(file, reason, message string) *spec.Problem {
	return &spec.Problem{Position: spec.Position{File: file}, Reason: reason, Message: message}
}

// tree lists the spec files of a commit, sorted by name.
func (r *runner) tree(ctx context.Context, c repository.Commit) ([]entry, error) {
	out := &bounded{left: maxTree}
	_, err := r.Run(ctx, repository.Run{Args: []string{"ls-tree", "-z", "-l", "--full-tree", c.ID + ":" + r.Path}, Stdout: out})
	if out.left < 0 {
		return nil, &Rejection{Commit: c.ID, Err: fmt.Errorf("its directory %q has too many entries", r.Path)}
	}
	if err != nil {
		if ctx.Err() == nil && !r.Damaged(ctx) {
			return nil, &Rejection{Commit: c.ID, Err: fmt.Errorf("it has no directory %q; next step: bring it back, or correct git.path; one without specs has a file %s", r.Path, path.Join(r.Path, source.Marker))}
		}
		return nil, err
	}
	return parseTree(out.kept.Bytes())
}

// parseTree reads `ls-tree -z -l`: MODE TYPE ID SIZE<tab>NAME<nul>.
func parseTree(data []byte) ([]entry, error) {
	var out []entry
	for line := range bytes.SplitSeq(data, []byte{0}) {
		if len(line) == 0 {
			continue
		}
		meta, name, ok := strings.Cut(string(line), "\t")
		f := strings.Fields(meta)
		if !ok || len(f) != 4 {
			return nil, fmt.Errorf("git ls-tree: %q is no entry", line)
		}
		if !source.SpecFile(name) {
			continue
		}
		e := entry{mode: f[0], kind: f[1], id: f[2], name: name}
		if f[3] != "-" {
			size, err := strconv.ParseInt(f[3], 10, 64)
			if err != nil {
				return nil, fmt.Errorf("git ls-tree: size of %q: %w", line, err)
			}
			e.size = size
		}
		out = append(out, e)
	}
	slices.SortFunc(out, func(a, b entry) int { return strings.Compare(a.name, b.name) })
	return out, nil
}

// blobs reads the contents of blobs, in their order.
func (r *runner) blobs(ctx context.Context, ids []string) ([][]byte, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	out := &bounded{left: 2 * maxContent}
	_, err := r.Run(ctx, repository.Run{Args: []string{"cat-file", "--batch"}, Stdin: strings.Join(ids, "\n") + "\n", Stdout: out})
	if err != nil {
		return nil, err
	}
	return parseBatch(&out.kept, ids)
}

// parseBatch reads `cat-file --batch`: ID TYPE SIZE<lf>CONTENT<lf>.
func parseBatch(data io.Reader, ids []string) ([][]byte, error) {
	in := bufio.NewReader(data)
	out := make([][]byte, len(ids))
	for i, id := range ids {
		line, err := in.ReadString('\n')
		f := strings.Fields(line)
		if err != nil || len(f) != 3 || f[0] != id || f[1] != "blob" {
			return nil, fmt.Errorf("git cat-file: %q is not the blob %s", line, id)
		}
		size, err := strconv.Atoi(f[2])
		if err != nil || size < 0 || size > source.MaxFileSize {
			return nil, fmt.Errorf("git cat-file: size of %q", line)
		}
		out[i] = make([]byte, size)
		_, errBody := io.ReadFull(in, out[i])
		end, errEnd := in.ReadByte()
		if err := errors.Join(errBody, errEnd); err != nil || end != '\n' {
			return nil, fmt.Errorf("git cat-file: blob %s is cut short: %w", id, err)
		}
	}
	return out, nil
}

// bounded is a buffer that refuses what is too much. It does not embed it:
// io.Copy would find its ReadFrom, which knows no bound.
type bounded struct {
	kept bytes.Buffer
	left int
}

func (b *bounded) Write(p []byte) (int, error) {
	if b.left -= len(p); b.left < 0 {
		return 0, errors.New("too much output")
	}
	return b.kept.Write(p)
}

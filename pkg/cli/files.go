package cli

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/internal/terminal"
	"tekton.host/pkg/server/wire"
	"tekton.host/pkg/spec"
)

// readFiles reads spec files: files, "-" for standard input, and of directories
// the *.yaml and *.yml in them. What is no regular file is refused: a FIFO would block.
func (a *app) readFiles(paths []string) ([]v1alpha1.File, error) {
	var files []v1alpha1.File
	for _, path := range paths {
		names, err := specFiles(path)
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			data, err := a.readFile(name)
			if err != nil {
				return nil, err
			}
			files = append(files, v1alpha1.File{Name: name, Data: data})
			a.sources[name] = data
		}
	}
	return files, nil
}

func specFiles(path string) ([]string, error) {
	if path == "-" {
		return []string{path}, nil
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return []string{path}, nil
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if ext := filepath.Ext(e.Name()); (ext == ".yaml" || ext == ".yml") && !strings.HasPrefix(e.Name(), ".") {
			names = append(names, filepath.Join(path, e.Name()))
		}
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("directory %s holds no *.yaml or *.yml file", path)
	}
	slices.Sort(names)
	return names, nil
}

func (a *app) readFile(name string) ([]byte, error) {
	if name == "-" {
		return readAll(a.in, name)
	}
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is no regular file; to read from a pipe, use -", name)
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readAll(f, name)
}

func readAll(r io.Reader, name string) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, wire.MaxRequest+1))
	if err == nil && len(data) > wire.MaxRequest {
		err = fmt.Errorf("it is larger than %s", terminal.Bytes(wire.MaxRequest))
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return data, nil
}

// sourceWidth bounds the shown part of a source line.
const sourceWidth = 100

// problem is a problem with the line of its file and a caret below its column.
func (v view) problem(p spec.Problem, source []byte) string {
	var b strings.Builder
	message := p.Message
	if p.Field != "" {
		message = p.Field + ": " + message
	}
	fmt.Fprintf(&b, "%s %s\n", v.Bold(terminal.Escape(p.Position.String())+":"), terminal.Escape(message))
	line, ok := nth(string(source), p.Line)
	if !ok || p.Column < 1 {
		return b.String()
	}
	text := []rune(strings.TrimRight(line, "\r\n"))
	column := min(p.Column-1, len(text))
	from := max(0, column-sourceWidth*3/4)
	to := min(len(text), from+sourceWidth)
	before := shown(string(text[from:column]))
	number := fmt.Sprintf("%5d | ", p.Line)
	fmt.Fprintf(&b, "%s%s%s\n", v.Faint(number), before, shown(string(text[column:to])))
	fmt.Fprintf(&b, "%s%s%s\n", strings.Repeat(" ", len(number)-2), v.Faint("| "), strings.Repeat(" ", len([]rune(before)))+v.Red("^"))
	return b.String()
}

// shown is a piece of a source line with tabs as wide as they count.
func shown(s string) string { return terminal.Escape(strings.ReplaceAll(s, "\t", " ")) }

// nth returns a line; lines count from 1.
func nth(text string, n int) (string, bool) {
	if text == "" {
		return "", false
	}
	for line := range strings.Lines(text) {
		if n--; n == 0 {
			return line, true
		}
	}
	return "", false
}

package main

import (
	"fmt"
	"go/ast"
	"go/doc/comment"
	"go/parser"
	"go/token"
	"path/filepath"
	"reflect"
	"strings"
)

// comments are the doc comments of a package's structs, by "Type" and "Type.Field".
type comments map[string]string

func readDocs(dir string) (comments, error) {
	names, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		return nil, err
	}
	docs := comments{}
	for _, name := range names {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments)
		if err != nil {
			return nil, err
		}
		for _, d := range file.Decls {
			if g, ok := d.(*ast.GenDecl); ok {
				docs.addTypes(g)
			}
		}
	}
	return docs, nil
}

func (c comments) addTypes(g *ast.GenDecl) {
	for _, s := range g.Specs {
		spec, ok := s.(*ast.TypeSpec)
		if !ok {
			continue
		}
		c.add(spec.Name.Name, g.Doc)
		fields, ok := spec.Type.(*ast.StructType)
		if !ok {
			continue
		}
		for _, f := range fields.Fields.List {
			for _, name := range f.Names {
				c.add(spec.Name.Name+"."+name.Name, f.Doc)
			}
		}
	}
}

func (c comments) add(name string, group *ast.CommentGroup) {
	if group == nil {
		return
	}
	var p comment.Parser
	text := (&comment.Printer{TextWidth: -1}).Text(p.Parse(group.Text()))
	c[name] = strings.Join(strings.Fields(string(text)), " ")
}

// field returns the comment of a field of t, which begins with the field's
// name, as it is written in a spec. A field without one is a mistake: it would
// be published so.
func (c comments) field(t reflect.Type, f reflect.StructField) (string, error) {
	owner := t
	if len(f.Index) > 1 { // promoted from an embedded struct
		owner = t.Field(f.Index[0]).Type
	}
	rest, ok := strings.CutPrefix(c[owner.Name()+"."+f.Name], f.Name)
	if !ok {
		return "", fmt.Errorf("field %s.%s has no doc comment that begins with its name", owner.Name(), f.Name)
	}
	return jsonName(f) + rest, nil
}

// jsonName is the name of a field in a spec; empty: it has none.
func jsonName(f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
	return strings.TrimPrefix(name, "-")
}

// optional reports whether a field may be left out.
func optional(f reflect.StructField) bool {
	_, options, _ := strings.Cut(f.Tag.Get("json"), ",")
	return strings.HasPrefix(options, "omit")
}

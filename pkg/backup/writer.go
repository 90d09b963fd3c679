package backup

import (
	"archive/tar"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"time"
)

// maxRemarks bounds the manifest: a volume may hold any number of odd things.
const maxRemarks = 200

// WriterOptions of NewWriter.
type WriterOptions struct {
	Head  Head // required; its format is set here
	Plain bool // not compressed
	// Progress is told of each piece of content that was read. Optional.
	Progress func(n int64)
}

// Writer makes an archive. What was written before Close has ended well is none.
type Writer struct {
	o        WriterOptions
	gzip     *gzip.Writer // nil: not compressed
	out      io.Writer
	tar      *tar.Writer
	manifest Manifest
	sum      *sum
	unsaid   int // remarks beyond maxRemarks
}

// NewWriter begins an archive.
func NewWriter(w io.Writer, o WriterOptions) (*Writer, error) {
	if o.Progress == nil {
		o.Progress = func(int64) {}
	}
	o.Head.Format = Format
	a := &Writer{o: o, out: w, manifest: Manifest{Head: o.Head}}
	if !o.Plain {
		// Dumps are compressed already, and the host has other things to do.
		a.gzip, _ = gzip.NewWriterLevel(w, gzip.BestSpeed) // the level is a good one
		a.out = a.gzip
	}
	a.tar = tar.NewWriter(a.out)
	head, err := encode(o.Head)
	if err != nil {
		return nil, err
	}
	return a, a.document(headName, head)
}

func (a *Writer) document(name string, content []byte) error {
	h := &tar.Header{Typeflag: tar.TypeReg, Name: name, Size: int64(len(content)), Mode: 0o600, ModTime: a.o.Head.CreatedAt}
	if err := a.tar.WriteHeader(h); err != nil {
		return err
	}
	_, err := a.tar.Write(content)
	return err
}

// part adds one part: what fill writes.
func (a *Writer) part(name string, fill func() error) error {
	if of, err := partOf(name); err != nil || of != name {
		return fmt.Errorf("%q is no part of an archive", name)
	}
	a.sum = newSum(name)
	if err := fill(); err != nil {
		return fmt.Errorf("back up %s: %w", name, err)
	}
	a.manifest.Parts = append(a.manifest.Parts, a.sum.end())
	a.sum = nil
	return nil
}

// Bytes adds a part that is one file of this content.
func (a *Writer) Bytes(part string, content []byte) error {
	return a.part(part, func() error {
		h := &tar.Header{Typeflag: tar.TypeReg, Name: part, Size: int64(len(content)), Mode: 0o600, ModTime: a.o.Head.CreatedAt}
		if err := a.header(h); err != nil {
			return err
		}
		_, err := a.content().Write(content)
		return err
	})
}

// header writes that of an entry of the part.
func (a *Writer) header(h *tar.Header) error {
	h.Format = tar.FormatPAX // the only one that keeps all of it
	if err := a.tar.WriteHeader(h); err != nil {
		return err
	}
	a.sum.entry(h)
	return nil
}

// content is where that of the latest header goes.
func (a *Writer) content() io.Writer { return io.MultiWriter(a.tar, a.sum) }

// sparse writes the header of a file with holes, and what is in front of its
// data; where that goes, and what ends the entry.
func (a *Writer) sparse(h *tar.Header, segments []segment) (data io.Writer, end func() error, err error) {
	if err := a.tar.Flush(); err != nil {
		return nil, nil, err
	}
	table := sparseMap(segments, h.Size)
	stored := int64(len(table))
	for _, s := range segments {
		stored += s.length
	}
	raw, err := sparseHeader(h, stored)
	if err != nil {
		return nil, nil, err
	}
	if _, err := a.out.Write(append(raw, table...)); err != nil {
		return nil, nil, err
	}
	a.sum.entry(h)
	return a.out, func() error {
		_, err := a.out.Write(make([]byte, padding(stored)))
		return err
	}, nil
}

// Remark notes what whoever needs the archive has to know.
func (a *Writer) Remark(format string, args ...any) {
	if len(a.manifest.Remarks) >= maxRemarks {
		a.unsaid++
		return
	}
	a.manifest.Remarks = append(a.manifest.Remarks, fmt.Sprintf(format, args...))
}

// Close makes it an archive: writes the manifest, and what ends the stream.
func (a *Writer) Close() (Manifest, error) {
	if a.unsaid > 0 {
		a.manifest.Remarks = append(a.manifest.Remarks, fmt.Sprintf("and %d more", a.unsaid))
	}
	a.manifest.FinishedAt = time.Now().UTC()
	raw, err := encode(a.manifest)
	if err != nil {
		return Manifest{}, err
	}
	digest := sha256.Sum256(raw)
	err = errors.Join(a.document(manifestName, raw), a.document(sumName, []byte(hex.EncodeToString(digest[:])+"\n")), a.tar.Close())
	if a.gzip != nil {
		err = errors.Join(err, a.gzip.Close())
	}
	return a.manifest, err
}

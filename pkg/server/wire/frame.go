package wire

import (
	"encoding/binary"
	"fmt"
	"io"
)

// FrameType says what a frame of an exec session carries.
type FrameType byte

const (
	FrameStdin    FrameType = iota + 1 // client: bytes
	FrameStdinEnd                      // client: no more input
	FrameResize                        // client: rows and columns
	FrameSignal                        // client: one byte
	FrameStdout                        // daemon: bytes
	FrameStderr                        // daemon: bytes
	FrameCredit                        // daemon: so many bytes of input have been taken
	FrameExit                          // daemon: exit code; the last frame
)

const (
	// MaxFrame bounds the payload of a frame.
	MaxFrame = 32 << 10
	// StdinWindow bounds the bytes of input that no credit was given for.
	StdinWindow = 8 * MaxFrame
	headerSize  = 5
)

// WriteFrame writes a frame with one Write.
func WriteFrame(w io.Writer, t FrameType, payload []byte) error {
	if len(payload) > MaxFrame {
		return fmt.Errorf("frame of %d bytes is larger than %d", len(payload), MaxFrame)
	}
	buf := make([]byte, headerSize, headerSize+len(payload))
	buf[0] = byte(t)
	binary.BigEndian.PutUint32(buf[1:], uint32(len(payload)))
	_, err := w.Write(append(buf, payload...))
	return err
}

// ReadFrame reads a frame. io.EOF is the end between two frames.
func ReadFrame(r io.Reader) (FrameType, []byte, error) {
	var header [headerSize]byte
	if _, err := io.ReadFull(r, header[:]); err != nil {
		return 0, nil, err
	}
	n := binary.BigEndian.Uint32(header[1:])
	if n > MaxFrame {
		return 0, nil, fmt.Errorf("frame of %d bytes is larger than %d", n, MaxFrame)
	}
	payload := make([]byte, n)
	if _, err := io.ReadFull(r, payload); err != nil {
		return 0, nil, fmt.Errorf("read frame: %w", io.ErrUnexpectedEOF)
	}
	return FrameType(header[0]), payload, nil
}

// Number is the payload of FrameCredit and FrameExit.
func Number(n int) []byte { return binary.BigEndian.AppendUint32(nil, uint32(n)) }

// ParseNumber reads the payload of FrameCredit and FrameExit.
func ParseNumber(payload []byte) (int, error) {
	if len(payload) != 4 {
		return 0, fmt.Errorf("number of %d bytes, want 4", len(payload))
	}
	return int(int32(binary.BigEndian.Uint32(payload))), nil
}

// Payload of FrameResize.
func (s Size) Payload() []byte {
	return binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, s.Rows), s.Cols)
}

// ParseSize reads the payload of FrameResize.
func ParseSize(payload []byte) (Size, error) {
	if len(payload) != 4 {
		return Size{}, fmt.Errorf("size of %d bytes, want 4", len(payload))
	}
	return Size{Rows: binary.BigEndian.Uint16(payload), Cols: binary.BigEndian.Uint16(payload[2:])}, nil
}

package clamav

import (
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"gatepost/internal/mail"
)

// mailMark makes libclamav see mail whatever field comes first (see the package
// comment).
const mailMark = "Received: from gatepost\r\n"

// inMemory is the size up to which a message for FILDES is held in memory.
const inMemory = 1 << 20

func content(m *mail.Message) io.Reader {
	return io.MultiReader(strings.NewReader(mailMark), m.Reader())
}

func contentSize(m *mail.Message) int64 { return int64(len(mailMark)) + m.Size() }

// contentFile returns the message as an open file without a name. clamd insists
// on a regular file, which a memfd is.
func contentFile(m *mail.Message) (*os.File, error) {
	file, err := nameless(contentSize(m))
	if err != nil {
		return nil, fmt.Errorf("make a file for clamd: %w", err)
	}
	n, err := io.Copy(file, content(m))
	if err == nil && n != contentSize(m) {
		err = io.ErrUnexpectedEOF
	}
	if err == nil {
		_, err = file.Seek(0, io.SeekStart)
	}
	if err != nil {
		file.Close()
		return nil, fmt.Errorf("copy the message for clamd: %w", err)
	}
	return file, nil
}

func nameless(size int64) (*os.File, error) {
	if size <= inMemory {
		fd, err := unix.MemfdCreate("gatepost", unix.MFD_CLOEXEC)
		if err != nil {
			return nil, err
		}
		return os.NewFile(uintptr(fd), "memfd:gatepost"), nil
	}
	file, err := os.CreateTemp("", "gatepost-clamav-*")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(file.Name()); err != nil {
		file.Close()
		return nil, err
	}
	return file, nil
}

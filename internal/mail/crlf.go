package mail

import "io"

// CRLFWriter writes text to W with a CRLF for each line end, bare CR and bare LF
// included. Close writes what a CR at the very end owes; it leaves W open.
type CRLFWriter struct {
	W   io.Writer
	cr  bool // a CR was read and not written
	out []byte
}

func (n *CRLFWriter) Write(p []byte) (int, error) {
	n.out = n.out[:0]
	for _, c := range p {
		if n.cr {
			n.out = append(n.out, '\r', '\n')
			n.cr = false
			if c == '\n' {
				continue
			}
		}
		switch c {
		case '\r':
			n.cr = true
		case '\n':
			n.out = append(n.out, '\r', '\n')
		default:
			n.out = append(n.out, c)
		}
	}
	if _, err := n.W.Write(n.out); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Close writes the line end of a CR at the very end.
func (n *CRLFWriter) Close() error {
	if !n.cr {
		return nil
	}
	n.cr = false
	_, err := n.W.Write([]byte("\r\n"))
	return err
}
